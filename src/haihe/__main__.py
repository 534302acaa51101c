"""`python -m haihe`."""

from haihe.cli import main

raise SystemExit(main())

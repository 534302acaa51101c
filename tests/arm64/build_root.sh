#!/usr/bin/env bash
# An arm64 Debian root for qemu-user, with the aarch64 wheels of the dependencies and haihe's wheel.
#
#   tests/arm64/build_root.sh            everything that is missing or out of date; quick otherwise
#   PYTHON            interpreter with pip and build (default: python3)
#   HAIHE_ARM64_ROOT  where it is kept (default: haihe-arm64 in the user's cache folder)
#
# There, root/ is Debian, site/ the wheels of others, haihe/ the project's own. Nothing is mounted,
# registered or entered: qemu-user runs the root's python with -L. Exit code 77: a tool or a
# registry is out of reach, the last line says which; 1: something that was reached is wrong.
set -euo pipefail

readonly SUITE=bookworm PYTHON_TAG=cp311 PYTHON_VERSION=3.11
readonly PACKAGES=python3,python3-venv,libgomp1,libstdc++6
readonly CPUS=2
readonly MARKER=etc/haihe-emulated # as in boards/emulation.py

here=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$here/../.." && pwd)
python=${PYTHON:-python3}
cache=${HAIHE_ARM64_ROOT:-${XDG_CACHE_HOME:-$HOME/.cache}/haihe-arm64}
mkdir -p "$cache"
scratch=$(mktemp -d "$cache/scratch.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

say() { printf '%5d s  %s\n' "$SECONDS" "$*"; }

skip() {
    printf 'SKIPPED: %s\n' "$*"
    exit 77
}

is_current() { # NAME KEY: was NAME made from KEY?
    [[ -e $cache/$1 && -f $cache/$1.key && $(<"$cache/$1.key") == "$2" ]]
}

put() { # NAME KEY: the finished scratch/NAME takes its place at once
    rm -rf "${cache:?}/$1" "$cache/$1.key"
    mv "$scratch/$1" "$cache/$1"
    printf '%s\n' "$2" >"$cache/$1.key"
}

has_tools() {
    { command -v qemu-aarch64-static || command -v qemu-aarch64; } >/dev/null &&
        command -v debootstrap >/dev/null
}

get_tools() {
    has_tools && return
    [[ $(id -u) == 0 ]] || skip "qemu-user and debootstrap are not installed, and this is not root"
    command -v apt-get >/dev/null || skip "qemu-user and debootstrap are missing, and so is apt"
    say "installing qemu-user-static and debootstrap"
    local wanted=(qemu-user-static debootstrap debian-archive-keyring)
    export DEBIAN_FRONTEND=noninteractive
    if ! apt-get install -y --no-install-recommends "${wanted[@]}" >"$cache/apt.log" 2>&1; then
        { apt-get update && apt-get install -y --no-install-recommends "${wanted[@]}"; } \
            >"$cache/apt.log" 2>&1 || skip "apt cannot install them: $(tail -n 1 "$cache/apt.log")"
    fi
    has_tools || skip "apt installed ${wanted[*]}, but no qemu-aarch64 came of it"
}

make_root() {
    local key="$SUITE $PACKAGES" archive
    is_current root "$key" && return
    [[ $(id -u) == 0 ]] || skip "debootstrap runs as root only"
    say "Debian $SUITE arm64, first stage"
    debootstrap --arch=arm64 --foreign --variant=minbase --include="$PACKAGES" "$SUITE" \
        "$scratch/root" >"$cache/debootstrap.log" 2>&1 ||
        skip "debootstrap failed: $(tail -n 1 "$cache/debootstrap.log")"
    say "unpacking its archives"
    for archive in "$scratch"/root/var/cache/apt/archives/*.deb; do
        dpkg-deb -x "$archive" "$scratch/root" # instead of the second stage: no script is run
        rm "$archive"
    done
    put root "$key"
}

# What onnxruntime's cpuinfo library reads. Left to the host's files it takes them for an ARM
# machine's and crashes at import; the marker tells haihe and people what they look at.
describe_cpu() {
    local root=$cache/root cpu folder last=$((CPUS - 1))
    local system=$root/sys/devices/system/cpu
    local features="fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm"
    mkdir -p "$root/proc" "$root/etc" "$system"
    : >"$root/proc/cpuinfo"
    for ((cpu = 0; cpu < CPUS; cpu++)); do
        cat >>"$root/proc/cpuinfo" <<END
processor	: $cpu
BogoMIPS	: 100.00
Features	: $features lrcpc dcpop asimddp
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x4
CPU part	: 0xd0b
CPU revision	: 1

END
        folder=$system/cpu$cpu
        mkdir -p "$folder"/{topology,cpufreq} "$folder"/cache/index{0,1,2,3}
        echo 0 >"$folder/topology/physical_package_id"
        echo "$cpu" >"$folder/topology/core_id"
        echo "$cpu" >"$folder/topology/thread_siblings_list"
        printf '%x\n' $(((1 << CPUS) - 1)) >"$folder/topology/core_siblings"
        for name in core_siblings_list package_cpus_list cluster_cpus_list; do
            echo "0-$last" >"$folder/topology/$name"
        done
        echo 1500000 >"$folder/cpufreq/cpuinfo_min_freq"
        echo 2400000 >"$folder/cpufreq/cpuinfo_max_freq"
    done
    echo "0-$last" >"$system/possible"
    echo "0-$last" >"$system/present"
    echo 7 >"$system/kernel_max"
    echo "qemu-user: emulated, no timing from here means anything" >"$root/$MARKER"
}

pip() { "$python" -m pip --disable-pip-version-check "$@"; }

is_out_of_reach() { # LOG: did pip give up on a connection? (a missing package is none)
    grep -qE 'Retry\(total=0|timed out|Could not fetch URL|Temporary failure' "$1" ||
        ! pip download -q --no-deps --no-cache-dir -d "$scratch/reach" pyserial >/dev/null 2>&1
}

# Wheels for any glibc up to the root's.
foreign=(--only-binary=:all: --implementation cp --python-version "$PYTHON_VERSION")
for minor in 36 35 34 31 28 27 26 24 17; do
    foreign+=(--platform "manylinux_2_${minor}_aarch64")
done
foreign+=(--platform manylinux2014_aarch64)
for abi in "$PYTHON_TAG" abi3 none; do
    foreign+=(--abi "$abi")
done

list_dependencies() { # requirements.txt; constraints.txt: the versions that run natively
    "$python" - "$project/pyproject.toml" "$scratch" <<'END'
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

wanted = tomllib.loads(Path(sys.argv[1]).read_text("utf-8"))["project"]["dependencies"]
pinned = []
for line in wanted:
    name = re.match(r"[\w.-]+", line)[0]
    try:
        pinned.append(f"{name}=={version(name)}")
    except PackageNotFoundError:
        pass
Path(sys.argv[2], "requirements.txt").write_text("\n".join([*wanted, ""]), "utf-8")
Path(sys.argv[2], "constraints.txt").write_text("\n".join([*pinned, ""]), "utf-8")
END
}

make_site() {
    list_dependencies
    local key wheels=$scratch/wheels log=$cache/pip.log
    key=$(cat "$scratch/requirements.txt" "$scratch/constraints.txt" | sha256sum)
    is_current site "$key" && return
    say "aarch64 wheels of the dependencies"
    if ! pip download -q "${foreign[@]}" -d "$wheels" -r "$scratch/requirements.txt" \
        -c "$scratch/constraints.txt" >"$log" 2>&1; then
        ! is_out_of_reach "$log" || skip "pip cannot download: $(tail -n 1 "$log")"
        say "not in the versions that run natively: $(grep -m 1 ERROR "$log" || true)"
        rm -rf "$wheels"
        if ! pip download -q "${foreign[@]}" -d "$wheels" -r "$scratch/requirements.txt" \
            >"$log" 2>&1; then
            ! is_out_of_reach "$log" || skip "pip cannot download: $(tail -n 1 "$log")"
            cat "$log" >&2
            echo "a dependency has no wheel for aarch64 and Python $PYTHON_VERSION" >&2
            exit 1
        fi
    fi
    say "installing $(find "$wheels" -name '*.whl' | wc -l) wheels"
    pip install -q "${foreign[@]}" --no-deps --target "$scratch/site" "$wheels"/*.whl
    put site "$key"
}

make_haihe() {
    local key log=$cache/build.log
    key=$(cd "$project" && find -L src pyproject.toml README.md LICENSE -type f \
        -not -path '*/__pycache__/*' -not -path '*.egg-info/*' -print0 |
        sort -z | xargs -0 sha256sum | sha256sum)
    is_current haihe "$key" && return
    say "haihe's wheel"
    if ! "$python" -m build --outdir "$scratch/dist" "$project" >"$log" 2>&1; then
        ! is_out_of_reach "$log" || skip "the wheel cannot be built: pip cannot download"
        tail -n 20 "$log" >&2
        exit 1
    fi
    pip install -q --no-deps --target "$scratch/haihe" "$scratch"/dist/*.whl
    put haihe "$key"
}

get_tools
make_root
describe_cpu
make_site
make_haihe
say "ready: $(du -sh "$cache" | cut -f 1)"

"""Floor 2: devices. A codec, a device and an emulator per protocol."""

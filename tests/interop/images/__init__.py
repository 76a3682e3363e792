"""Real bootable images, the formats made from them, and the emulator that boots them."""

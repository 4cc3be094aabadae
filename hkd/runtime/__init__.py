"""The machine: device, precision, memory allocator, memory and CPU usage."""

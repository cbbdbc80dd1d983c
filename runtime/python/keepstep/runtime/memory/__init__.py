"""What lies where: inputs checked, the arena, parts of constants, the address of every tensor."""

"""What a person sees and keeps: lines, tables, progress, files, and how a command ends."""

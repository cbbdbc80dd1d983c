"""The command `keepstep`: one file a group of commands, thin over what the other rooms do."""

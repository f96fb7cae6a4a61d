"""The built-in piece of music: written for this project, synthesised when it is asked for, the same every time."""

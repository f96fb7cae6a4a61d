"""From blocks of sound to frames of features: conditioning, gain stage, openSMILE and the descriptors."""

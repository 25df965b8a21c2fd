"""Other programs' forms of a Whisper: written, and decoded with by the program that reads them."""

import sys
from pathlib import Path

# the lab is not part of the installed package: its folder is found from the repository's root
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

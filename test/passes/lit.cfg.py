# The configuration of ../ir, for this folder.
import os

lit_folder_config = os.path.abspath(__file__)
with open(os.path.join(os.path.dirname(lit_folder_config), "..", "ir", "lit.cfg.py")) as shared:
    exec(compile(shared.read(), shared.name, "exec"))

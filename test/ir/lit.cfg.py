# Shared by the lit folders. Parameters: build (the build folder), llvm-tools
# (where FileCheck and not are).
import os

import lit.formats

folder = os.path.dirname(os.path.abspath(globals().get("lit_folder_config", __file__)))
build = lit_config.params["build"]

config.name = "calibatt-" + os.path.basename(folder)
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir"]
config.test_source_root = folder
config.test_exec_root = os.path.join(build, "test", "lit", os.path.basename(folder))
tools = [os.path.join(build, "bin"), lit_config.params["llvm-tools"]]
config.environment["PATH"] = os.pathsep.join(tools + [config.environment.get("PATH", "")])
# Profiles are made by the runtime side's command.
if os.path.exists(os.path.join(build, "bin", "calibatt")):
    config.available_features.add("calibatt")

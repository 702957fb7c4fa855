// Runs sattn passes one at a time on IR text: for tests and for debugging.
#include "compiler/Pipeline.h"
#include "ir/Sattn.h"

#include "mlir/Tools/mlir-opt/MlirOptMain.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  registry.insert<calibatt::sattn::SattnDialect>();
  calibatt::registerSattnPipeline();
  return mlir::asMainReturnCode(
      mlir::MlirOptMain(argc, argv, "calibatt-opt: the sattn passes, one at a time\n", registry));
}

// Writes the CUDA text of every sample plan, and a table of their entries, for
// the host compiler. Usage: emit-samples FOLDER
#include "CalibrationSamples.h"
#include "SamplePlans.h"

#include <fmt/format.h>
#include <fstream>

using namespace calibatt;

int main(int argc, char **argv) {
  if (argc != 2)
    return 2;
  std::string folder = argv[1], declarations, entries;
  std::vector<test::SamplePlan> samples = test::samplePlans();
  for (size_t i = 0; i < samples.size(); ++i) {
    std::string symbol = kernelSymbol(samples[i].plan);
    // One program holds all kernels, so their schedule symbols need names of their own.
    std::ofstream(fmt::format("{}/sample{}.cpp", folder, i))
        << fmt::format("#define calibatt_schedule calibatt_schedule_{}\n", i)
        << emitKernel(samples[i].plan);
    declarations += fmt::format("extern \"C\" void {}(calibatt::LaunchParams);\n", symbol);
    entries += fmt::format("    {},\n", symbol);
  }
  std::string calibrations;
  std::vector<test::CalibrationSample> more = test::calibrationSamples();
  for (size_t i = 0; i < more.size(); ++i) {
    CalibrationSource source = emitCalibration(more[i].kernel, more[i].spec);
    std::ofstream(fmt::format("{}/calibration{}.cpp", folder, i)) << source.cuda;
    declarations += fmt::format("extern \"C\" void {}({});\n", source.symbol,
                                test::calibrationParams(more[i].kernel));
    calibrations += fmt::format("    reinterpret_cast<void (*)()>({}),\n", source.symbol);
  }
  std::ofstream(folder + "/Entries.cpp")
      << "#include \"runtime/format/CalibrationParams.h\"\nusing namespace calibatt;\n"
      << declarations << "extern void (*const kSampleEntries[])(calibatt::LaunchParams);\n"
      << "void (*const kSampleEntries[])(calibatt::LaunchParams) = {\n"
      << entries << "};\n"
      << "extern void (*const kCalibrationEntries[])();\n"
      << "void (*const kCalibrationEntries[])() = {\n"
      << calibrations << "};\n";
}

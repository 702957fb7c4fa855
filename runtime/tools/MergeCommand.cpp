// `calibatt merge`: the shards of a compile -> the package.
#include "runtime/tools/MergeCommand.h"

#include "runtime/format/PackageMerge.h"
#include "runtime/format/Quantity.h"
#include "runtime/tools/Commands.h"
#include "runtime/tools/Report.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <memory>

namespace calibatt {
namespace {

struct MergeOptions {
  std::vector<std::string> shards;
  std::string output;
  bool json = false;
};

int runMerge(const MergeOptions &options) {
  auto merged = mergePackages(options.shards, options.output);
  if (!merged)
    return reportFailure(merged.message());
  if (options.json)
    return printJson({{"package", options.output},
                      {"shards", merged->shards},
                      {"layers", merged->layers},
                      {"kernels", merged->kernels},
                      {"code_images", merged->codeImages},
                      {"package_bytes", merged->packageBytes}});
  return printText(
      fmt::format("{}: {} of {}: {}, {}, {}\n", options.output, counted(merged->layers, "layer"),
                  counted(merged->shards, "shard"), counted(merged->kernels, "kernel"),
                  counted(merged->codeImages, "code image"), byteQuantity(merged->packageBytes)));
}

} // namespace

void addMerge(CLI::App &app, int &exitCode) {
  auto *command = app.add_subcommand("merge", "Shards of a compile -> the package of all of them");
  auto options = std::make_shared<MergeOptions>();
  command->add_option("shards", options->shards, "What `compile --shard i/N` made, all N")
      ->type_name("SHARD.calibatt")
      ->required();
  command->add_option("-o,--output", options->output, "The package to write")
      ->type_name("M.calibatt")
      ->required();
  command->add_flag("--json", options->json, "Machine-readable output");
  command->callback([options, &exitCode] { exitCode = runMerge(*options); });
}

} // namespace calibatt

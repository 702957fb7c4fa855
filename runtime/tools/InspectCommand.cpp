// `calibatt inspect info|ls|show|mask|extract`: what is in a package, offline.
#include "runtime/inspect/PackageSummary.h"
#include "runtime/inspect/SiteExtract.h"
#include "runtime/inspect/SiteSchedule.h"
#include "runtime/tools/Commands.h"
#include "runtime/tools/Disassembler.h"
#include "runtime/tools/MaskCommand.h"
#include "runtime/tools/Report.h"
#include "runtime/tools/SiteArgument.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <memory>

namespace calibatt {
namespace {

void addPackageAndJson(CLI::App &command, std::string &package, bool &json) {
  command.add_option("package", package, "The package")->type_name("M.calibatt")->required();
  command.add_flag("--json", json, "Machine-readable output");
}

int showSummary(const PackageReader &package, bool json) {
  auto summary = summarise(package);
  if (!summary)
    return reportFailure(summary.message());
  return json ? printJson(summaryJson(package, *summary))
              : printText(summaryText(package, *summary, stdoutStyle()));
}

void addInfo(CLI::App &inspect, int &exitCode) {
  struct Options {
    std::string package;
    bool json = false;
  };
  auto *command = inspect.add_subcommand("info", "The package as a whole: problem, sizes, forms");
  auto options = std::make_shared<Options>();
  addPackageAndJson(*command, options->package, options->json);
  command->callback([options, &exitCode] {
    auto package = PackageReader::open(options->package);
    if (!package)
      exitCode = reportFailure(package.message());
    else
      exitCode = showSummary(*package, options->json);
  });
}

void addLs(CLI::App &inspect, int &exitCode) {
  struct Options {
    std::string package;
    bool json = false;
    SiteFilter filter;
  };
  auto *command = inspect.add_subcommand("ls", "Every site with its kernel and what it costs");
  auto options = std::make_shared<Options>();
  addPackageAndJson(*command, options->package, options->json);
  command->add_option("--layer", options->filter.layer, "Only this layer");
  command->add_option("--head", options->filter.head, "Only this head");
  command->add_option("--step", options->filter.step, "Only this step");
  command->add_option("--limit", options->filter.limit, "Rows at most (default: all)");
  command->callback([options, &exitCode] {
    auto package = PackageReader::open(options->package);
    if (!package) {
      exitCode = reportFailure(package.message());
      return;
    }
    auto listing = listSites(*package, options->filter);
    if (!listing)
      exitCode = reportFailure(listing.message());
    else
      exitCode = options->json ? printJson(listingJson(*listing))
                               : printText(listingText(*listing, stdoutStyle()));
  });
}

struct ShowOptions {
  std::string package;
  bool json = false, schedule = false, ir = false, cuda = false, ptx = false, sass = false;
  SiteArgument site;
};

/// The IR of a layer. The bits of its masks may be left out, which the text alone would not tell: a
/// module without them looks whole.
Result<std::string> irText(const PackageReader &package, uint32_t layer) {
  auto text = package.ir(layer);
  if (!text || text->find("dense_resource<") == std::string::npos ||
      text->find("dialect_resources") != std::string::npos)
    return text;
  return "// The data of dense_resource attributes (masks, row classes, runs) are left out of this "
         "text, which\n// calibatt-opt therefore refuses; `calibatt inspect show --schedule` and "
         "`inspect mask --json` have them.\n" +
         *text;
}

/// The part asked for, as text.
Result<std::string> showPart(const ShowOptions &options, const PackageReader &package,
                             const SiteRow &row) {
  if (options.ir)
    return irText(package, row.site.layer);
  if (options.cuda)
    return package.cuda(row.record.code);
  if (options.ptx) {
    auto ptx = package.ptx(row.record.code);
    if (ptx && ptx->empty())
      return Error{fmt::format("{}: code image {} was packaged without its PTX", package.path(),
                               row.record.code)};
    return ptx;
  }
  auto fatbin = package.fatbin(row.record.code);
  if (!fatbin)
    return fatbin.takeError();
  return disassemble(*fatbin, row.arch);
}

int runShow(const ShowOptions &options) {
  auto package = PackageReader::open(options.package);
  if (!package)
    return reportFailure(package.message());
  auto site = options.site.resolve(*package);
  if (!site)
    return reportFailure(site.message());

  const char *part = options.ir     ? "ir"
                     : options.cuda ? "cuda"
                     : options.ptx  ? "ptx"
                     : options.sass ? "sass"
                                    : "schedule";
  if (std::string_view(part) == "schedule") {
    auto schedule = siteSchedule(*package, *site);
    if (!schedule)
      return reportFailure(schedule.message());
    if (!options.json)
      return printText(scheduleText(*schedule, package->manifest().problem, stdoutStyle()));
    nlohmann::ordered_json json = siteRowJson(schedule->row);
    json["schedule"] = scheduleJson(*schedule);
    return printJson(json);
  }
  SiteCosts costs(*package);
  auto row = siteRow(*package, *site, costs);
  if (!row)
    return reportFailure(row.message());
  auto text = showPart(options, *package, *row);
  if (!text)
    return reportFailure(text.message());
  if (!options.json)
    return printText(*text + (text->ends_with('\n') ? "" : "\n"));
  nlohmann::ordered_json json = siteRowJson(*row);
  json[part] = *text;
  return printJson(json);
}

void addShow(CLI::App &inspect, int &exitCode) {
  auto *command = inspect.add_subcommand("show", "One site: its schedule, or its code");
  auto options = std::make_shared<ShowOptions>();
  addPackageAndJson(*command, options->package, options->json);
  options->site.addTo(*command);
  std::vector<CLI::Option *> parts;
  auto add = [&](const char *name, bool &wanted, const char *what) {
    auto *part = command->add_flag(name, wanted, what);
    for (CLI::Option *other : parts)
      part->excludes(other);
    parts.push_back(part);
  };
  add("--schedule", options->schedule, "Rows as runs, and a picture (the default)");
  add("--ir", options->ir, "The sattn IR of the site's layer");
  add("--cuda", options->cuda, "The CUDA C++ of its kernel");
  add("--ptx", options->ptx, "The PTX of its kernel");
  add("--sass", options->sass, "The machine code (needs nvdisasm or cuobjdump)");
  command->callback([options, &exitCode] {
    options->site.require(false);
    exitCode = runShow(*options);
  });
}

struct ExtractOptions {
  std::string package, folder;
  bool json = false;
  SiteArgument site;
};

int runExtract(const ExtractOptions &options) {
  auto package = PackageReader::open(options.package);
  if (!package)
    return reportFailure(package.message());
  auto site = options.site.resolve(*package);
  if (!site)
    return reportFailure(site.message());
  auto files = extractSite(*package, *site, options.folder);
  if (!files)
    return reportFailure(files.message());
  SiteCosts costs(*package);
  auto row = siteRow(*package, *site, costs);
  if (!row)
    return reportFailure(row.message());
  return options.json ? printJson(extractJson(*files, *row))
                      : printText(extractText(*files, *row, stdoutStyle()));
}

void addExtract(CLI::App &inspect, int &exitCode) {
  auto *command = inspect.add_subcommand(
      "extract", "One site as files: a stand-alone cubin and fatbin, CUDA, schedule");
  auto options = std::make_shared<ExtractOptions>();
  addPackageAndJson(*command, options->package, options->json);
  options->site.addTo(*command);
  command->add_option("-o,--output", options->folder, "Folder for the files, made if missing")
      ->type_name("DIR")
      ->required();
  command->callback([options, &exitCode] {
    options->site.require(false);
    exitCode = runExtract(*options);
  });
}

} // namespace

void addInspect(CLI::App &app, int &exitCode) {
  auto *inspect = app.add_subcommand("inspect", "What is in a package, without a GPU");
  inspect->require_subcommand(1);
  addInfo(*inspect, exitCode);
  addLs(*inspect, exitCode);
  addShow(*inspect, exitCode);
  addMask(*inspect, exitCode);
  addExtract(*inspect, exitCode);
}

} // namespace calibatt

// `calibatt verify`: are the schedules those of the profile, and do the kernels
// compute what they should.
#include "runtime/inspect/PackageSummary.h"
#include "runtime/tools/Commands.h"
#include "runtime/tools/Report.h"
#include "runtime/tools/check/FileCheck.h"
#include "runtime/tools/verify/CodeFacts.h"
#include "runtime/tools/verify/DeviceSession.h"
#include "runtime/tools/verify/KernelCheck.h"
#include "runtime/tools/verify/ScheduleComparison.h"
#include "runtime/tools/verify/TestTensors.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <memory>
#include <unistd.h>

namespace calibatt {
namespace {

constexpr size_t kListedDifferences = 10;
/// Kernels run where the user does not say: all of a small package, a sample of a model.
constexpr uint64_t kDefaultKernels = 64, kDefaultLargeKernels = 8;
constexpr uint32_t kLargeTokens = 4096;

struct VerifyOptions {
  std::string package, profile;
  std::string device = "host";
  std::optional<uint64_t> sites, seed;
  bool schedulesOnly = false;
  bool json = false;
};

/// The lines below the summary of a superset package.
std::string additionText(const ScheduleComparison &c) {
  std::string text;
  if (c.largestAddition)
    text = fmt::format("  {}: at most {:.2f} % of a site's blocks added ({}, where {:.2f} % are "
                       "allowed)\n",
                       supersetText(c.supersetPasses), 100 * c.largestAddition->density,
                       siteName(c.largestAddition->site), 100 * c.largestAddition->bound);
  return text + "  the reference below takes its masks from the package\n";
}

std::string comparisonText(const ScheduleComparison &c, const std::string &profile,
                           const TextStyle &style) {
  std::string text = fmt::format(
      "{}  {}, {}, {} decoded and compared with {}: ", style.bold("schedules"),
      counted(c.sites, "site"), counted(c.rows, "row"), counted(c.blocks, "block"), profile);
  if (c.onlyInProfile + c.notAllowed == 0) {
    text += style.good(c.wantsEquality() ? "equal, bit by bit"
                                         : fmt::format("superset, no block missing, {} added",
                                                       counted(c.onlyInPackage, "block"))) +
            "\n";
  } else {
    text += style.bad(fmt::format("{} {}", counted(c.differingSites, "site"),
                                  c.differingSites == 1 ? "differs" : "differ")) +
            "\n";
    if (c.wantsEquality())
      text += fmt::format("  {} only in the package, {} only in the profile\n",
                          counted(c.onlyInPackage, "block"), counted(c.onlyInProfile, "block"));
    else
      text += fmt::format("  superset wanted: {} missing, {} added, {} of them beyond what {} "
                          "may add\n",
                          counted(c.onlyInProfile, "block"), counted(c.onlyInPackage, "block"),
                          groupedNumber(c.notAllowed), supersetText(c.supersetPasses));
    for (const BlockDifference &difference : c.first)
      text += "  " + differenceText(difference) + "\n";
    uint64_t rest = c.notAllowed + c.onlyInProfile - c.first.size();
    if (rest)
      text += fmt::format("  ... and {} more\n", groupedNumber(rest));
  }
  if (!c.wantsEquality())
    text += additionText(c);
  if (c.differingStats)
    text += style.bad(fmt::format("  statistics of {} are not the profile's",
                                  counted(c.differingStats, "site"))) +
            "\n  " + c.firstStats + "\n";
  if (c.repetitiveSites)
    text += fmt::format("  {} repetitive: anchor rows over every key, copied to the others\n",
                        counted(c.repetitiveSites, "site"));
  if (!c.sameProfile)
    text += "  note: the package was compiled from another file (their SHA-256 differ)\n";
  return text;
}

nlohmann::ordered_json comparisonJson(const ScheduleComparison &c, const std::string &profile) {
  nlohmann::ordered_json first = nlohmann::ordered_json::array();
  for (const BlockDifference &d : c.first)
    first.push_back({{"layer", d.site.layer},
                     {"head", d.site.head},
                     {"step", d.site.step},
                     {"row", d.row},
                     {"block", d.block},
                     {"in", d.inPackage ? "package" : "profile"}});
  nlohmann::ordered_json largest;
  if (const auto &addition = c.largestAddition)
    largest = {{"layer", addition->site.layer},
               {"head", addition->site.head},
               {"step", addition->site.step},
               {"density", addition->density},
               {"bound", addition->bound}};
  return {{"profile", profile},
          {"checked", c.wantsEquality() ? "equality" : "superset"},
          {"superset_passes", supersetJson(c.supersetPasses)},
          {"passed", c.passed()},
          {"equal", c.equal()},
          {"sites", c.sites},
          {"rows", c.rows},
          {"blocks", c.blocks},
          {"repetitive_sites", c.repetitiveSites},
          {"differing_sites", c.differingSites},
          {"only_in_package", c.onlyInPackage},
          {"only_in_profile", c.onlyInProfile},
          {"added_beyond_bound", c.notAllowed},
          {"differing_statistics", c.differingStats},
          {"largest_addition", std::move(largest)},
          {"same_profile_digest", c.sameProfile},
          {"first_differences", std::move(first)}};
}

/// What ran where, so that nobody takes a host check for a GPU check.
std::string whatRan(const CheckReport &report) {
  return report.onHost
             ? "The GPU code was compiled, not run: the host device computed from the schedules "
               "that the kernels read."
             : fmt::format("The kernels of the package ran on {}; {} computed twice.",
                           report.device, counted(report.reruns, "tile"));
}

std::string checksText(const CheckReport &report, uint64_t seed, const TextStyle &style) {
  std::string text =
      fmt::format("{}   on {}; random inputs of seed {}, against a float64 masked reference\n",
                  style.bold("numerics"), report.device, seed);
  TextTable table({">kernel", "form", ">layer", "heads", ">step", ">batch", ">tiles", ">rows",
                   ">relative RMS", ">max error", ">LSE error", "result"});
  uint64_t failed = 0;
  for (const KernelCheck &k : report.kernels) {
    std::string outcome = k.passed ? "ok"
                          : k.unwritten
                              ? fmt::format("{} unwritten", counted(k.unwritten, "element"))
                          : k.error.sawNan ? "not finite"
                                           : "wrong";
    table.addRow(
        {std::to_string(k.kernel), formName(k.form),
         k.denseFallback ? "dense" : std::to_string(k.layer),
         k.headCount == 1 ? std::to_string(k.headBegin)
                          : fmt::format("{}-{}", k.headBegin, k.headBegin + k.headCount - 1),
         k.denseFallback ? "-" : std::to_string(k.step), std::to_string(k.shape.batch),
         groupedNumber(k.tiles), groupedNumber(k.error.rows),
         fmt::format("{:.1e}", k.error.relativeRms()), fmt::format("{:.1e}", k.error.maxError),
         fmt::format("{:.1e}", k.error.maxLseError), outcome});
    if (!k.passed) {
      table.markLastRow();
      ++failed;
    }
  }
  text += table.text(style);
  text += fmt::format("  limits: relative RMS {:.0e}, log-sum-exp {:.0e} nats; {} of {} distinct "
                      "kernels run{}\n",
                      report.rmsLimit, report.lseLimit,
                      std::count_if(report.kernels.begin(), report.kernels.end(),
                                    [](const KernelCheck &k) { return !k.denseFallback; }),
                      report.distinctKernels,
                      report.kernels.size() && report.kernels.back().denseFallback
                          ? ", and the dense fallback"
                          : "");
  text += failed
              ? style.bad(fmt::format("  {} failed\n", counted(failed, "kernel")))
              : style.good(fmt::format("  {} passed\n", counted(report.kernels.size(), "kernel")));
  return text + "  " + whatRan(report) + "\n";
}

nlohmann::ordered_json checksJson(const CheckReport &report, uint64_t seed) {
  nlohmann::ordered_json kernels = nlohmann::ordered_json::array();
  for (const KernelCheck &k : report.kernels)
    kernels.push_back(
        {{"kernel", k.kernel},
         {"form", formName(k.form)},
         {"dense_fallback", k.denseFallback},
         {"layer", k.layer},
         {"step", k.step},
         {"heads", {k.headBegin, k.headBegin + k.headCount}},
         {"batch", k.shape.batch},
         {"order", k.shape.order == TensorOrder::HeadMajor ? "head_major" : "token_major"},
         {"only_compared_tiles_computed", k.tilesOnly},
         {"tiles", k.tiles},
         {"rows", k.error.rows},
         {"relative_rms", k.error.relativeRms()},
         {"max_error", k.error.maxError},
         {"max_lse_error", k.error.maxLseError},
         {"unwritten", k.unwritten},
         {"finite", !k.error.sawNan},
         {"passed", k.passed}});
  return {{"device", report.device},
          {"gpu_code_run", !report.onHost},
          {"seed", seed},
          {"relative_rms_limit", report.rmsLimit},
          {"lse_limit", report.lseLimit},
          {"reruns", report.reruns},
          {"distinct_kernels", report.distinctKernels},
          {"passed", report.passed()},
          {"kernels", std::move(kernels)}};
}

/// Says what is damaged; nothing else of such a package is looked at.
int reportDamage(const FileCheck &check, const VerifyOptions &options) {
  if (!options.json) {
    for (const FileFault &fault : check.faults)
      reportFailure(fault.message);
    return kExitFailed;
  }
  const int printed =
      printJson({{"package", check.path}, {"integrity", checkJson(check)}, {"passed", false}});
  return printed != kExitDone ? printed : kExitFailed;
}

std::string integrityText(const FileCheck &check, const CodeFacts &facts, const TextStyle &style) {
  std::string text = fmt::format("{}    {}, {}: {}; {}: ", style.bold("package"),
                                 counted(check.tensors, "tensor"), counted(check.chunks, "chunk"),
                                 style.good("as written"), counted(facts.codes, "code image"));
  if (facts.faults.empty())
    return text + style.good("of the manifest's problem and scale") + "\n";
  text += style.bad(fmt::format("{} not of the manifest", facts.faults.size())) + "\n";
  for (const std::string &fault : facts.faults)
    text += "  " + fault + "\n";
  return text;
}

int runVerify(const VerifyOptions &options) {
  auto package = PackageReader::open(options.package);
  if (!package)
    return reportFailure(package.message());
  std::optional<ProfileReader> profile;
  if (!options.profile.empty()) {
    auto opened = ProfileReader::open(options.profile);
    if (!opened)
      return reportFailure(opened.message());
    profile = opened.take();
  }
  const TextStyle style = stdoutStyle();
  nlohmann::ordered_json json = {{"package", package->path()}};
  // With a profile every schedule is decoded below.
  const FileCheck integrity = checkPackage(*package, /*decode=*/!profile);
  if (!integrity.passed())
    return reportDamage(integrity, options);
  const auto facts = checkCodeFacts(*package);
  if (!facts)
    return reportFailure(facts.message());
  json["integrity"] = checkJson(integrity);
  json["code"] = {{"code_images", facts->codes}, {"faults", facts->faults}};
  bool passed = facts->faults.empty();
  if (!options.json)
    if (int code = printText(integrityText(integrity, *facts, style)))
      return code;

  const bool onTerminal = isatty(STDERR_FILENO);
  if (profile) {
    ComparedLayers progress;
    if (onTerminal)
      progress = [](size_t done, size_t total) {
        std::fprintf(stderr, "\r\x1b[Klayer %zu of %zu compared", done, total);
      };
    auto comparison = compareSchedules(*package, *profile, kListedDifferences, progress);
    if (onTerminal)
      std::fputs("\r\x1b[K", stderr);
    if (!comparison)
      return reportFailure(comparison.message());
    passed = passed && comparison->passed();
    json["schedules"] = comparisonJson(*comparison, profile->path());
    if (!options.json)
      if (int code = printText(comparisonText(*comparison, profile->path(), style)))
        return code;
  } else if (!options.json) {
    if (int code = printText(style.bold("schedules") +
                             "  not compared: no --profile; the reference below takes its masks "
                             "from the package itself\n"))
      return code;
  }

  if (options.schedulesOnly) {
    json["numerics"] = nullptr;
    json["passed"] = passed;
    int printed = options.json ? printJson(json)
                               : printText(style.bold("numerics") +
                                           "   not run: --schedules-only compares, it computes "
                                           "nothing\n");
    return printed != kExitDone ? printed : passed ? kExitDone : kExitFailed;
  }

  CheckOptions check;
  check.device = options.device;
  check.seed = options.seed ? *options.seed : freshSeed();
  check.maxKernels = options.sites.value_or(
      package->manifest().problem.tokens > kLargeTokens ? kDefaultLargeKernels : kDefaultKernels);
  if (onTerminal)
    check.progress = [](uint64_t done, uint64_t total) {
      std::fprintf(stderr, "\r\x1b[Kkernel %llu of %llu", (unsigned long long)done + 1,
                   (unsigned long long)total);
    };
  // Kernels of a superset package compute more than the profile's masks, as was compared above.
  bool exact = package->manifest().supersetPasses.empty();
  auto report = checkKernels(*package, profile && exact ? &*profile : nullptr, check);
  if (check.progress)
    std::fputs("\r\x1b[K", stderr);
  if (!report)
    return reportFailure(report.message());
  passed = passed && report->passed();
  json["numerics"] = checksJson(*report, check.seed);
  json["passed"] = passed;
  int printed = options.json ? printJson(json) : printText(checksText(*report, check.seed, style));
  return printed != kExitDone ? printed : passed ? kExitDone : kExitFailed;
}

} // namespace

void addVerify(CLI::App &app, int &exitCode) {
  auto *command = app.add_subcommand(
      "verify", "Compare a package with its profile, and its kernels with a float64 reference");
  auto options = std::make_shared<VerifyOptions>();
  command->add_option("package", options->package, "The package")
      ->type_name("M.calibatt")
      ->required();
  command
      ->add_option("--profile", options->profile,
                   "Compare every schedule with this profile bit by bit: equal, or a superset "
                   "within bounds where the package says so")
      ->type_name("P.calib.safetensors");
  command
      ->add_flag("--schedules-only", options->schedulesOnly,
                 "Only compare schedules: run no kernel")
      ->needs("--profile");
  command->add_option("--device", options->device, "host, cuda or cuda:N (default: host)")
      ->type_name("NAME")
      ->check(deviceNameProblem);
  command->add_option("--sites", options->sites,
                      "Distinct kernels to run at most, 0 for all (default: 64, or 8 of long "
                      "sequences)");
  command->add_option("--seed", options->seed, "Seed of the random inputs (default: fresh)");
  command->add_flag("--json", options->json, "Machine-readable output");
  command->callback([options, &exitCode] { exitCode = runVerify(*options); });
}

} // namespace calibatt

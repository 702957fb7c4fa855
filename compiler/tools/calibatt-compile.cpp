// calibatt-compile: reads the command line, runs the compile, prints what came of it.
#include "codegen/SpecTuning.h"
#include "compiler/CalibrationPackage.h"
#include "compiler/Driver.h"
#include "runtime/format/AtomicFile.h"
#include "runtime/format/ContentStore.h"
#include "runtime/format/Quantity.h"
#include "runtime/usage/Usage.h"

#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fmt/format.h>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>
#include <unistd.h>

namespace calibatt {
namespace {

// The exit codes of `calibatt`, which this program is a command of.
constexpr int kExitDone = 0;
constexpr int kExitFailed = 1;
constexpr int kExitSignal = 128; ///< and the number of the signal, as shells count

std::atomic<bool> interrupted{false};
std::atomic<int> interruptedBy{0};
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free,
              "set from a signal handler");

void interrupt(int signal) {
  interruptedBy = signal;
  interrupted = true;
}

/// The first signal asks the compile to stop and clean up; a second one ends the program.
void watchSignals() {
  struct sigaction action{};
  action.sa_handler = interrupt;
  action.sa_flags = int(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

/// Names come from files: bytes that are not UTF-8 are replaced, not thrown at.
std::string jsonText(const nlohmann::ordered_json &json, int indent = -1) {
  return json.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace);
}

int fail(const std::string &message) {
  std::fflush(stdout);
  fmt::print(stderr, "calibatt-compile: error: {}\n", message);
  return kExitFailed;
}

/// Standard error while a compile runs: warnings and remarks, and on a terminal a line of
/// progress that is written over. Elsewhere there is none, so that logs stay short, unless
/// JSON lines are asked for: then each of these is one. Where quiet is asked for, only warnings.
class Progress {
public:
  Progress(bool json, bool quiet) : json(json), quiet(quiet) {}

  void show(std::string_view phase, size_t done, size_t total) {
    if (quiet || (!json && !terminal))
      return;
    const std::optional<double> left = secondsLeft(phase, done, total);
    if (json)
      return line({{"event", "progress"},
                   {"phase", phase},
                   {"done", done},
                   {"total", total},
                   {"left_s", left ? nlohmann::ordered_json(*left) : nlohmann::ordered_json()}});
    std::lock_guard lock(mutex);
    fmt::print(stderr, "\r\033[K{} {}/{}{}", phase, done, total,
               left ? fmt::format(", about {:.0f} s left", *left) : "");
    std::fflush(stderr);
    shown = true;
  }
  void clear() {
    std::lock_guard lock(mutex);
    clearLine();
  }
  /// A whole line of its own, from whichever thread.
  void tell(std::string_view kind, std::string_view text) {
    if (quiet && kind != "warning")
      return;
    if (json)
      return line({{"event", kind}, {"text", text}});
    std::lock_guard lock(mutex);
    clearLine();
    fmt::print(stderr, "calibatt-compile: {}: {}\n", kind, text);
  }

private:
  /// Of the phase, at the pace so far: nothing before it has one.
  std::optional<double> secondsLeft(std::string_view phase, size_t done, size_t total) {
    std::lock_guard lock(mutex);
    const auto now = std::chrono::steady_clock::now();
    if (phase != current) {
      current = phase;
      begin = now;
      doneBefore = done;
    }
    const std::chrono::duration<double> elapsed = now - begin;
    if (done <= doneBefore || elapsed.count() < 1)
      return std::nullopt;
    return elapsed.count() * double(total - done) / double(done - doneBefore);
  }
  void line(const nlohmann::ordered_json &event) {
    std::lock_guard lock(mutex);
    fmt::print(stderr, "{}\n", jsonText(event));
    std::fflush(stderr);
  }
  void clearLine() {
    if (shown)
      fmt::print(stderr, "\r\033[K");
    shown = false;
  }

  const bool json, quiet;
  std::mutex mutex;
  std::string current; ///< phase, and when it was told first
  std::chrono::steady_clock::time_point begin;
  size_t doneBefore = 0;
  bool terminal = isatty(2) != 0;
  bool shown = false;
};

struct CommandLine {
  CompileOptions options;
  CalibrationShape shape;
  std::string grid;
  bool calibration = false; ///< no profile, but a shape
  std::string form = "auto", granularity = "step", progress = "auto", budget, shard, reportFile,
              depFile;
  bool json = false, remarks = false, noCache = false, quiet = false, warningsAsErrors = false;
  uint64_t cacheLimitBytes = uint64_t(16) << 30;
};

/// "BYTES" or "BYTES,SECONDS"; an empty text where it is one, else what is wrong.
std::string parseBudget(const std::string &text, uint64_t &bytes, double &seconds) {
  const char *end = text.data() + text.size();
  auto [rest, status] = std::from_chars(text.data(), end, bytes);
  bool good = status == std::errc();
  if (good && rest != end) {
    auto [last, secondsStatus] = std::from_chars(rest + 1, end, seconds);
    good = *rest == ',' && secondsStatus == std::errc() && last == end && seconds >= 0;
  }
  return good ? "" : fmt::format("got \"{}\", wanted BYTES[,SECONDS]", text);
}

/// "I/N", the first being 1/N; an empty text where it is one, else what is wrong.
std::string parseShard(const std::string &text, ShardNumber &shard) {
  const char *end = text.data() + text.size();
  auto [slash, status] = std::from_chars(text.data(), end, shard.index);
  bool good = status == std::errc() && slash != end && *slash == '/';
  if (good) {
    auto [last, countStatus] = std::from_chars(slash + 1, end, shard.count);
    good =
        countStatus == std::errc() && last == end && shard.index >= 1 && shard.index <= shard.count;
  }
  return good ? "" : fmt::format("got \"{}\", wanted I/N with I from 1 to N", text);
}

void addOptions(CLI::App &app, CommandLine &line) {
  CompileOptions &options = line.options;
  options.jobs = std::max(1u, std::thread::hardware_concurrency());
  app.add_option("profile", options.profile, "The profile")->type_name("P.calib.safetensors");
  app.add_option("-o,--output", options.output, "The package to write; not with --dry-run")
      ->type_name("M.calibatt");
  app.add_option("--arch", options.arch, "Architecture of the kernels")
      ->type_name("NAME")
      ->capture_default_str();
  addChoice(*app.add_option("--form", line.form,
                            "How far schedules are unrolled into code (default: auto)"),
            {"auto", "full", "schedule", "runs", "table"});
  addChoice(*app.add_option("--granularity", line.granularity,
                            "One kernel a (layer, step), or one a head (default: step)"),
            {"step", "head"});
  app.add_option("--unroll-budget", line.budget,
                 "Unrolled code and compile time `auto` allows a kernel (default: 65536,10)")
      ->type_name("BYTES[,SECONDS]")
      ->check([](const std::string &text) {
        uint64_t bytes = 0;
        double seconds = 0;
        return parseBudget(text, bytes, seconds);
      });
  app.add_option("-j,--jobs", options.jobs, "Layers and kernels at a time (default: all cores)")
      ->type_name("N")
      ->check(wholeNumber(1, 1024));
  app.add_option("--shard", line.shard,
                 "Only the layers of part I of N; `calibatt merge` makes the package of all N")
      ->type_name("I/N")
      ->check([](const std::string &text) {
        ShardNumber shard;
        return parseShard(text, shard);
      });
  app.add_option("--share-steps", options.shareStepsTau,
                 "Steps share a schedule where this share of their blocks agrees; only adds blocks")
      ->type_name("TAU")
      ->check([](const std::string &text) {
        double tau = 0;
        auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), tau);
        bool good =
            status == std::errc() && end == text.data() + text.size() && tau > 0 && tau <= 1;
        return good ? std::string()
                    : fmt::format("got \"{}\", wanted a number above 0, at most 1", text);
      });
  addChoice(*app.add_option("--tile-order", options.tileOrder,
                            "Launch order of the query tiles: head after head (the default), or "
                            "longest first over all"),
            {"heads", "longest"});
  addChoice(*app.add_option("--softmax", options.softmax,
                            "Maximum of a row: frozen after its first block, online, or chosen by "
                            "the profile's largest logits (auto, the default)"),
            {"auto", "frozen", "online"});
  app.add_option("--tune", options.tuning,
                 "Set levers of the kernels, to measure them (stages, persistent, frozen_max, ...)")
      ->type_name("FIELD=VALUE,...")
      ->check([](const std::string &text) {
        AttentionSpec spec;
        Status status = applyTuning(spec, text);
        return status ? std::string() : status.message();
      });
  auto *cache = app.add_option("--cache", options.cacheFolder,
                               "Keep compiled kernels in this folder (default: $CALIBATT_CACHE, "
                               "else calibatt in $XDG_CACHE_HOME or ~/.cache)")
                    ->type_name("DIR");
  app.add_flag("--no-cache", line.noCache, "Compile every kernel, keep none")->excludes(cache);
  addByteSize(
      *app.add_option("--cache-limit", line.cacheLimitBytes,
                      "Then remove from the cache what was not used for longest (default: 16GiB)"));
  app.add_option("--dump-ir", options.dumpFolder, "Write IR and CUDA text into this folder")
      ->type_name("DIR");
  app.add_option("--report", line.reportFile, "Write the report, JSON")->type_name("F.json");
  app.add_option("--depfile", line.depFile, "Write what the package depends on, for make and ninja")
      ->type_name("F.d");
  addChoice(*app.add_option(
                "--progress", line.progress,
                "On standard error: a line on a terminal, none elsewhere (auto), or JSON lines"),
            {"auto", "json"});
  auto *remarks =
      app.add_flag("--remarks", line.remarks,
                   "Print every remark of the passes as it comes; the report has them in any case");
  auto *quiet = app.add_flag("-q,--quiet", line.quiet,
                             "Print warnings and errors only: no progress, remarks or report")
                    ->excludes(remarks);
  app.add_flag("--warnings-as-errors", line.warningsAsErrors,
               "Write no package where there was a warning, and exit with 1");
  app.add_flag("--dry-run", options.dryRun, "Lower and count, but compile and write no package");
  app.add_flag("--json", line.json, "Print the report as JSON")->excludes(quiet);
}

/// "TxHxW", three numbers.
bool parseGrid(const std::string &text, CalibrationShape &shape) {
  const char *next = text.data(), *end = next + text.size();
  for (uint32_t *number : {&shape.frames, &shape.height, &shape.width}) {
    if (number != &shape.frames) {
      if (next == end || *next != 'x')
        return false;
      ++next;
    }
    auto [rest, status] = std::from_chars(next, end, *number);
    if (status != std::errc())
      return false;
    next = rest;
  }
  return next == end;
}

/// What a package to calibrate with is compiled for, in place of a profile.
void addShape(CLI::App &app, CommandLine &line) {
  auto *calibration = app.add_flag("--calibration", line.calibration,
                                   "Kernels to calibrate with, for this shape and no profile:");
  auto add = [&](const char *name, auto &value, const char *what) {
    return app.add_option(name, value, what)->needs(calibration);
  };
  add("--grid", line.grid, "Patch grid of the video")
      ->type_name("TxHxW")
      ->check([](const std::string &text) {
        CalibrationShape shape;
        return parseGrid(text, shape)
                   ? std::string()
                   : fmt::format("got \"{}\", wanted TxHxW, such as 21x30x52", text);
      });
  add("--heads", line.shape.heads, "Heads of a layer")
      ->type_name("N")
      ->check(wholeNumber(1, UINT32_MAX));
  addChoice(*add("--head-dim", line.shape.headDim, "Elements of a head (default: 128)"),
            {"64", "128"});
  add("--anchors", line.shape.anchors,
      "Rows a frame that repetition is scored against (default: 5)")
      ->type_name("N")
      ->check(wholeNumber(1, 64));
  add("--text", line.shape.text, "Text tokens behind the video")->type_name("N");
  add("--scale", line.shape.scale, "Of the logits (default: 1 / sqrt(head dim))")
      ->type_name("X")
      ->check(numberAboveZero());
  add("--model", line.shape.model, "Name of the model (default: calibration)")->type_name("NAME");
}

/// After parsing: what CLI11 does not check. The error is a usage error.
Status finishOptions(CommandLine &line) {
  CompileOptions &options = line.options;
  if (line.calibration) {
    if (!options.profile.empty() || options.dryRun)
      return Error{"--calibration takes no profile, and compiles in any case"};
    if (!line.shard.empty())
      return Error{"--shard excludes --calibration, which is one layer"};
    if (!parseGrid(line.grid, line.shape))
      return Error{"--calibration wants --grid TxHxW"};
    if (line.shape.heads == 0)
      return Error{"--calibration wants --heads, the heads of a layer"};
  } else if (options.profile.empty()) {
    return Error{"a profile is required without --calibration"};
  }
  if (options.output.empty() && !options.dryRun)
    return Error{"--output is required without --dry-run"};
  if (options.dryRun && !line.depFile.empty())
    return Error{"--depfile excludes --dry-run"};
  for (Form form : {Form::Full, Form::Schedule, Form::Runs, Form::Table})
    if (line.form == formName(form))
      options.form = form;
  options.perHead = line.granularity == "head";
  if (!line.shard.empty())
    parseShard(line.shard, options.shard.emplace());
  if (!line.budget.empty())
    parseBudget(line.budget, options.unrollBudgetBytes, options.unrollBudgetSeconds);
  return {};
}

/// As make reads file names in rules.
std::string makeName(const std::string &path) {
  std::string name;
  for (char c : path) {
    if (c == ' ' || c == '#')
      name += '\\';
    else if (c == '$')
      name += '$';
    name += c;
  }
  return name;
}

/// A rule that has the package depend on the profile, this program and the CUDA compiler.
std::string depFileText(const CompileReport &report) {
  std::vector<std::string> inputs;
  if (!report.profile.empty()) // none of a calibration package
    inputs.push_back(report.profile);
  std::error_code ignored;
  if (auto self = std::filesystem::read_symlink("/proc/self/exe", ignored); !self.empty())
    inputs.push_back(self);
  inputs.insert(inputs.end(), report.toolFiles.begin(), report.toolFiles.end());
  std::string text = makeName(report.output) + ":";
  for (const std::string &input : inputs)
    text += " \\\n  " + makeName(input);
  return text + "\n";
}

/// A file to write when all is well; made now, so that what cannot be fails before the work.
Status prepareFile(const std::string &path, std::optional<AtomicFile> &file) {
  if (path.empty())
    return {};
  auto created = AtomicFile::create(path);
  if (!created)
    return created.takeError();
  file.emplace(created.take());
  return {};
}

/// On the disk, so that only its name is missing.
Status fillFile(std::optional<AtomicFile> &file, const std::string &text) {
  if (!file)
    return {};
  Status status = file->write(text);
  return status ? file->prepare() : std::move(status);
}

Status finishFile(std::optional<AtomicFile> &file) { return file ? file->commit() : Status(); }

int compile(const CommandLine &line) {
  std::optional<AtomicFile> reportFile, depFile;
  if (Status status = prepareFile(line.reportFile, reportFile); !status)
    return fail(status.message());
  if (Status status = prepareFile(line.depFile, depFile); !status)
    return fail(status.message());
  watchSignals();
  Progress progress(line.progress == "json", line.quiet);
  std::atomic<size_t> warnings{0};
  auto warn = [&](const std::string &text) {
    ++warnings;
    progress.tell("warning", text);
  };
  CompileOptions options = line.options;
  // Where nobody asked for a cache, a machine that cannot have one compiles without.
  if (options.cacheFolder.empty() && !line.noCache && !options.dryRun)
    if (std::string folder = ContentStore::defaultFolder(); !folder.empty()) {
      if (auto store = ContentStore::open(folder))
        options.cacheFolder = folder;
      else
        warn(store.message());
    }
  CompileEvents events;
  events.cancel = &interrupted;
  events.progress = [&](std::string_view phase, size_t done, size_t total) {
    progress.show(phase, done, total);
  };
  events.warning = warn;
  events.mayCompile = [&]() -> Status {
    if (!line.warningsAsErrors || warnings == 0)
      return {};
    return Error{
        fmt::format("{}, and --warnings-as-errors: no package", counted(warnings, "warning"))};
  };
  events.remark = [&](const std::string &text) { progress.tell("remark", text); };
  std::atomic<size_t> unsaid{0};
  events.layerRemark = [&](const std::string &text) {
    if (line.remarks)
      progress.tell("remark", text);
    else
      ++unsaid;
  };
  // Package, report and dependencies appear together, or none of them.
  std::string json;
  events.beforeOutput = [&](const CompileReport &report) -> Status {
    if (Status status = events.mayCompile(); !status) // warnings of the cache come late
      return status;
    json = jsonText(reportJson(report), 2) + "\n";
    if (Status status = fillFile(reportFile, json); !status)
      return status;
    return fillFile(depFile, depFileText(report));
  };
  auto report = line.calibration ? compileCalibration(line.shape, options, events)
                                 : compilePackage(options, events);
  progress.clear();
  if (!options.cacheFolder.empty() && !options.dryRun)
    if (auto store = ContentStore::open(options.cacheFolder))
      store->prune(line.cacheLimitBytes);
  if (!report) {
    fail(report.message());
    return interrupted ? kExitSignal + interruptedBy : kExitFailed;
  }
  if (unsaid)
    progress.tell("remark", fmt::format("{} on single layers and heads: --remarks prints them, "
                                        "the report has them",
                                        counted(unsaid, "remark")));

  if (options.dryRun)
    if (Status status = events.beforeOutput(*report); !status)
      return fail(status.message());
  if (Status status = finishFile(reportFile); !status)
    return fail(status.message());
  if (Status status = finishFile(depFile); !status)
    return fail(status.message());
  std::string text = line.json ? json : line.quiet ? "" : reportText(*report);
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    return fail("cannot write to standard output");
  return kExitDone;
}

int runCommandLine(int argc, char **argv) {
  CLI::App app("Compile a calibration profile into a package of attention kernels",
               "calibatt-compile");
  app.set_version_flag("--version", "calibatt-compile " CALIBATT_VERSION);
  shortenHelp(app);
  app.footer("Exit codes: 0 done, 1 the input or the work failed, 2 usage, 130 interrupted.");
  CommandLine line;
  addOptions(app, line);
  addShape(app, line);
  try {
    app.parse(argc, argv);
    if (Status status = finishOptions(line); !status)
      throw CLI::ValidationError(status.message());
  } catch (const CLI::ParseError &error) {
    return reportParseError(app, error);
  }
  return compile(line);
}

} // namespace
} // namespace calibatt

int main(int argc, char **argv) {
  try {
    return calibatt::runCommandLine(argc, argv);
  } catch (const std::exception &error) {
    fmt::print(stderr, "calibatt-compile: error: {}\n", error.what());
    return 1;
  }
}

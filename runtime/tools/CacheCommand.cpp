// `calibatt cache`: what compiles have kept, and making it less.
#include "runtime/tools/CacheCommand.h"

#include "runtime/format/ContentStore.h"
#include "runtime/tools/Commands.h"
#include "runtime/tools/Report.h"

#include <CLI/CLI.hpp>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>
#include <memory>

namespace calibatt {
namespace {

struct CacheOptions {
  std::string folder;
  uint64_t limitBytes = 0;
  bool json = false;
};

Result<ContentStore> openCache(const CacheOptions &options) {
  std::string folder = options.folder.empty() ? ContentStore::defaultFolder() : options.folder;
  if (folder.empty())
    return Error{"no cache folder: CALIBATT_CACHE, XDG_CACHE_HOME and HOME are not set; name one "
                 "with --cache"};
  return ContentStore::openExisting(folder);
}

/// "2026-01-31 12:00 UTC".
std::string timeText(int64_t seconds) {
  return fmt::format("{:%Y-%m-%d %H:%M} UTC", fmt::gmtime(std::time_t(seconds)));
}

int showCache(const CacheOptions &options) {
  auto store = openCache(options);
  if (!store)
    return reportFailure(store.message());
  const ContentStore::Usage usage = store->usage();
  if (options.json) {
    nlohmann::ordered_json kinds = nlohmann::ordered_json::object();
    for (const auto &[name, kind] : usage.kinds)
      kinds[name] = {{"entries", kind.entries}, {"bytes", kind.bytes}};
    auto time = [&](int64_t seconds) {
      return usage.entries ? nlohmann::ordered_json(seconds) : nlohmann::ordered_json();
    };
    return printJson({{"cache", store->folder()},
                      {"entries", usage.entries},
                      {"bytes", usage.bytes},
                      {"kinds", std::move(kinds)},
                      {"oldest_use_unix_s", time(usage.oldestUse)},
                      {"newest_use_unix_s", time(usage.newestUse)},
                      {"leftover_bytes", usage.leftoverBytes}});
  }
  const TextStyle style = stdoutStyle();
  std::string text = style.bold(store->folder()) + "\n";
  TextTable table({"kind", ">entries", ">size"});
  for (const auto &[name, kind] : usage.kinds)
    table.addRow({name, groupedNumber(kind.entries), byteQuantity(kind.bytes)});
  table.addRow({"all", groupedNumber(usage.entries), byteQuantity(usage.bytes)});
  text += table.text(style);
  if (usage.entries)
    text += fmt::format("  last used between {} and {}\n", timeText(usage.oldestUse),
                        timeText(usage.newestUse));
  if (usage.leftoverBytes)
    text += fmt::format("  {} of unfinished entries\n", byteQuantity(usage.leftoverBytes));
  return printText(text);
}

int printRemoved(const ContentStore &store, ContentStore::Removed removed, bool json) {
  if (json) {
    if (int failed = printJson({{"cache", store.folder()},
                                {"removed_entries", removed.entries},
                                {"removed_bytes", removed.bytes},
                                {"failed", removed.failed}}))
      return failed;
  } else if (int failed = printText(fmt::format("{}: removed {}, {}\n", store.folder(),
                                                counted(removed.entries, "entry", "entries"),
                                                byteQuantity(removed.bytes)))) {
    return failed;
  }
  if (removed.failed)
    return reportFailure(
        fmt::format("{}: {} cannot be removed", store.folder(), counted(removed.failed, "file")));
  return kExitDone;
}

int pruneCache(const CacheOptions &options) {
  auto store = openCache(options);
  if (!store)
    return reportFailure(store.message());
  return printRemoved(*store, store->prune(options.limitBytes), options.json);
}

int clearCache(const CacheOptions &options) {
  auto store = openCache(options);
  if (!store)
    return reportFailure(store.message());
  return printRemoved(*store, store->clear(), options.json);
}

} // namespace

void addCache(CLI::App &app, int &exitCode) {
  auto *cache = app.add_subcommand("cache", "What compiles keep for the next one");
  cache->require_subcommand(1);
  auto options = std::make_shared<CacheOptions>();
  auto add = [&](const char *name, const char *what, int (*run)(const CacheOptions &)) {
    auto *command = cache->add_subcommand(name, what);
    command
        ->add_option("--cache", options->folder,
                     "The folder (default: $CALIBATT_CACHE, else calibatt in $XDG_CACHE_HOME or "
                     "~/.cache)")
        ->type_name("DIR");
    command->add_flag("--json", options->json, "Machine-readable output");
    command->callback([options, run, &exitCode] { exitCode = run(*options); });
    return command;
  };
  add("info", "Count entries and bytes", showCache);
  add("prune", "Remove what was not used for longest", pruneCache)
      ->add_option("--limit", options->limitBytes, "Keep at most so much, such as 2GiB")
      ->type_name("SIZE")
      ->transform(CLI::AsSizeValue(false))
      ->required();
  add("clear", "Remove every entry", clearCache);
}

} // namespace calibatt

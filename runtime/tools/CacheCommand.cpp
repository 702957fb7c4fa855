// `calibatt cache`: what compiles have kept, and making it less.
#include "runtime/tools/CacheCommand.h"

#include "runtime/format/ContentStore.h"
#include "runtime/tools/Commands.h"
#include "runtime/tools/Report.h"
#include "runtime/usage/Usage.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <memory>
#include <optional>

namespace calibatt {
namespace {

struct CacheOptions {
  std::string folder;
  uint64_t limitBytes = 0;
  bool json = false;
};

/// A folder, which may hold nothing yet and then has no store; no folder where CALIBATT_CACHE is
/// set to nothing.
struct Cache {
  std::string folder;
  std::optional<ContentStore> store;

  std::string name() const {
    return folder.empty() ? "no cache (CALIBATT_CACHE is empty)" : folder;
  }
  nlohmann::ordered_json json() const {
    return folder.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(folder);
  }
};

Result<Cache> openCache(const CacheOptions &options) {
  Cache cache{options.folder.empty() ? ContentStore::defaultFolder() : options.folder, {}};
  if (cache.folder.empty()) {
    if (std::getenv("CALIBATT_CACHE"))
      return cache;
    return Error{"no cache folder: CALIBATT_CACHE, XDG_CACHE_HOME and HOME are not set; name one "
                 "with --cache"};
  }
  // Before the first compile there is no folder, or one that somebody made for it.
  std::error_code error;
  const bool there = std::filesystem::exists(cache.folder, error);
  if (!error && (!there || (std::filesystem::is_directory(cache.folder, error) &&
                            std::filesystem::is_empty(cache.folder, error))))
    return cache;
  auto store = ContentStore::openExisting(cache.folder);
  if (!store)
    return store.takeError();
  cache.store = store.take();
  return cache;
}

/// "2026-01-31 12:00 UTC".
std::string timeText(int64_t seconds) {
  return fmt::format("{:%Y-%m-%d %H:%M} UTC", fmt::gmtime(std::time_t(seconds)));
}

int showCache(const CacheOptions &options) {
  auto cache = openCache(options);
  if (!cache)
    return reportFailure(cache.message());
  const ContentStore::Usage usage = cache->store ? cache->store->usage() : ContentStore::Usage();
  if (options.json) {
    nlohmann::ordered_json kinds = nlohmann::ordered_json::object();
    for (const auto &[name, kind] : usage.kinds)
      kinds[name] = {{"entries", kind.entries}, {"bytes", kind.bytes}};
    auto time = [&](int64_t seconds) {
      return usage.entries ? nlohmann::ordered_json(seconds) : nlohmann::ordered_json();
    };
    return printJson({{"cache", cache->json()},
                      {"entries", usage.entries},
                      {"bytes", usage.bytes},
                      {"kinds", std::move(kinds)},
                      {"oldest_use_unix_s", time(usage.oldestUse)},
                      {"newest_use_unix_s", time(usage.newestUse)},
                      {"leftover_bytes", usage.leftoverBytes}});
  }
  const TextStyle style = stdoutStyle();
  std::string text = style.bold(cache->name()) + "\n";
  if (!cache->store)
    return printText(text + "  empty: no compile has kept anything\n");
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

int printRemoved(const Cache &cache, ContentStore::Removed removed, bool json) {
  if (json) {
    if (int failed = printJson({{"cache", cache.json()},
                                {"removed_entries", removed.entries},
                                {"removed_bytes", removed.bytes},
                                {"failed", removed.failed}}))
      return failed;
  } else if (int failed = printText(fmt::format("{}: removed {}, {}\n", cache.name(),
                                                counted(removed.entries, "entry", "entries"),
                                                byteQuantity(removed.bytes)))) {
    return failed;
  }
  if (removed.failed)
    return reportFailure(
        fmt::format("{}: {} cannot be removed", cache.folder, counted(removed.failed, "file")));
  return kExitDone;
}

int pruneCache(const CacheOptions &options) {
  auto cache = openCache(options);
  if (!cache)
    return reportFailure(cache.message());
  return printRemoved(
      *cache, cache->store ? cache->store->prune(options.limitBytes) : ContentStore::Removed(),
      options.json);
}

int clearCache(const CacheOptions &options) {
  auto cache = openCache(options);
  if (!cache)
    return reportFailure(cache.message());
  return printRemoved(*cache, cache->store ? cache->store->clear() : ContentStore::Removed(),
                      options.json);
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
  addByteSize(
      *add("prune", "Remove what was not used for longest", pruneCache)
           ->add_option("--limit", options->limitBytes, "Keep at most so much, such as 2GiB")
           ->required());
  add("clear", "Remove every entry", clearCache);
}

} // namespace calibatt

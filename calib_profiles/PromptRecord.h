// One prompt on its way into the counts: everything it adds, in a file of its own
// that is either whole or not there.
#pragma once

#include "calib_profiles/CountsFile.h"

#include <string>
#include <vector>

namespace calibatt {

/// `__metadata__` key of its document.
constexpr const char *kRecordKey = "calibatt_prompt";

/// The record that waits beside the counts at `path` to be folded in.
std::string recordPath(const std::string &path);

/// A block of a prompt: packUnits() of its energy, and whether its row's cover keeps it.
constexpr uint16_t kKeptBit = 0x8000;

/// Takes the sites of a prompt in any order; from several threads, each site once.
class PromptWriter {
public:
  /// `counts` outlives the writer.
  static Result<PromptWriter> create(const CountsReader &counts, const std::string &promptId);

  const std::string &promptId() const { return id; }
  bool has(uint64_t site) const { return added[site]; }
  uint64_t sitesAdded() const;
  /// Of a site that was added.
  uint64_t kept(uint64_t site) const { return scalars[site].kept; }
  /// `blocks`, [B, B], of one site.
  Status add(uint64_t site, const SiteScalars &scalars, std::span<const uint16_t> blocks);
  /// Fails where a site is missing, naming it.
  Status checkComplete() const;
  /// Puts the complete record where folding finds it.
  Status commit();

private:
  PromptWriter(const CountsReader &counts, std::string id, FilePlan plan, PlacedFile file);

  const CountsReader *counts;
  std::string id;
  FilePlan plan;
  PlacedFile file;
  std::vector<uint64_t> hashes;
  std::vector<SiteScalars> scalars;
  std::vector<uint8_t> added;
};

/// A whole record; sites are checked when they are read.
class PromptReader {
public:
  /// Fails where the record is of other counts.
  static Result<PromptReader> open(const std::string &path, const CountsReader &counts);

  const std::string &promptId() const { return id; }
  SiteScalars scalars(uint64_t site) const;
  /// [B, B]; fails where the site is damaged.
  Status blocks(uint64_t site, std::vector<uint16_t> &values) const;

private:
  PromptReader(SafetensorsReader file, const CountsReader &counts)
      : file(std::move(file)), counts(&counts) {}

  SafetensorsReader file;
  const CountsReader *counts;
  std::string id;
  std::vector<TensorView> tables; // in the order of the plan, without the blocks
  TensorEntry blocksEntry;
};

} // namespace calibatt

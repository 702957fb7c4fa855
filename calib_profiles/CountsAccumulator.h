// Adding prompts to a counts file, one after the other.
#pragma once

#include "calib_profiles/CountsFile.h"
#include "calib_profiles/CountsLock.h"
#include "calib_profiles/PromptRecord.h"

#include <memory>
#include <optional>
#include <string>

namespace calibatt {

/// What a site's attention came to for one prompt.
struct SiteMeasurement {
  std::span<const float> energies; ///< [B, B]
  /// [B, (B + 7) / 8] minimum cover at epsilon(); empty: found from the energies.
  std::span<const uint8_t> cover;
  double repetition = 0; ///< score, -1 to 1
  float rowMax = 0;      ///< nats
};

/// Counts open for writing. Prompts are named; a name can be used once.
class CountsAccumulator {
public:
  /// A file of counts without prompts. `header` says what is measured; its rho,
  /// gamma, prompts and seed do not matter. The caller holds the lock for writing.
  static Status createFile(const std::string &path, const ProfileHeader &header);
  /// Folds in what a killed run has left, and keeps the lock.
  static Result<CountsAccumulator> open(const std::string &path, CountsLock lock);
  CountsAccumulator(CountsAccumulator &&) noexcept;
  ~CountsAccumulator();

  const CountsReader &counts() const { return *reader; }
  bool recovered() const { return hasRecovered; }
  double epsilon(uint32_t step) const;

  /// Null between prompts.
  const PromptWriter *prompt() const { return writer ? &*writer : nullptr; }
  /// Whether `id` may begin: well-formed, not counted yet, and not the 256th.
  Status checkNewPrompt(const std::string &id) const;
  Status begin(const std::string &id);
  /// Whether it can be counted: finite, rows that sum to 1 (up to 2 %), a cover
  /// that covers. The message names layer, head, step and row.
  Status check(uint64_t site, const SiteMeasurement &measured) const;
  /// A checked measurement of the open prompt. Safe from several threads for different sites.
  Status add(uint64_t site, const SiteMeasurement &measured);
  /// Writes the prompt as a whole and folds it in. Where only folding fails the
  /// prompt is kept beside the counts, and open() or begin() go on with it.
  Status commit();
  void abandon();

private:
  CountsAccumulator(std::string path, CountsLock lock)
      : path(std::move(path)), lock(std::move(lock)) {}
  Status reload();

  std::string path;
  CountsLock lock;
  std::unique_ptr<CountsReader> reader; // where the open prompt finds it
  std::optional<PromptWriter> writer;
  bool hasRecovered = false;
};

} // namespace calibatt

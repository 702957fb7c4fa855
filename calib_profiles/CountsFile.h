// Counts: which blocks how many prompts needed, and how much attention they had.
// README.md has every field. What a profile is selected from, any number of times.
#pragma once

#include "calib_profiles/PlacedFile.h"
#include "calib_profiles/Profile.h"
#include "calib_profiles/Selection.h"
#include "runtime/format/Hash.h"

#include <optional>
#include <string>
#include <vector>

namespace calibatt {

/// How a counts file holds the energies of blocks.
enum class CountsKind : uint8_t {
  Sums,  ///< U32 sums over prompts: prompts can be added and files merged
  Means, ///< U8 codes of the mean: 2.5 times smaller, for good
};

/// The tensors of a counts file, in the order of their bytes.
enum class CountsTensor : uint8_t {
  State,      ///< U64 [2]: prompts folded in; number of the one being folded in, or 0
  Digest,     ///< U8 [32] countsDigest() of everything that is not per site
  SiteHash,   ///< U64 [sites] siteHash() of everything else of the site
  Repetition, ///< I64 [sites] sum of scores, in 2^-32
  Kept,       ///< U64 [sites] sum of the counts
  RowMax,     ///< F32 [sites] nats
  Best,       ///< of Means only: U16 [sites, B] column of each row's highest mean
  Energy,     ///< [sites, B, B] U32 sums in EnergyUnits.h's units, or U8 codes
  Count,      ///< U8 [sites, B, B]
  PromptIds,  ///< U8 [255, 1024] ascending, zero-padded
};
constexpr size_t kCountsTensors = 10;

constexpr size_t kPromptIdBytes = 1024; ///< of which the last is zero
constexpr const char *kCountsKey = "calibatt_counts";
/// Repetition scores are added up as whole multiples of this.
constexpr double kRepetitionUnit = 1.0 / (uint64_t(1) << 32);

/// Where everything of a counts file is. Sites are in the order of profiles: layer,
/// head, step.
struct CountsLayout {
  CountsKind kind = CountsKind::Sums;
  uint64_t sites = 0;
  uint32_t blocks = 0;
  std::string document; ///< `__metadata__` of new counts
  FilePlan plan;
  uint64_t offset[kCountsTensors] = {}, bytesPerSite[kCountsTensors] = {}; ///< 0: not per site

  static Result<CountsLayout> create(const ProfileHeader &header, CountsKind kind,
                                     const std::string &where);
  uint64_t at(CountsTensor tensor, uint64_t site) const {
    return offset[size_t(tensor)] + site * bytesPerSite[size_t(tensor)];
  }
};

/// 1 to 1023 bytes of UTF-8 without control characters.
Status checkPromptId(const std::string &id);
/// The tensor PromptIds; `ids` ascending, at most 255.
std::vector<uint8_t> packPromptIds(const std::vector<std::string> &ids);
/// SHA-256 of the document, the state and the table of prompt ids, as stored.
Sha256Digest countsDigest(const std::string &document, std::span<const uint8_t> state,
                          std::span<const uint8_t> promptIds);
/// SHA-256 as profiles have it, of ascending ids.
std::string promptsHash(const std::vector<std::string> &ids);

/// The scalars of a site over all prompts.
struct SiteScalars {
  int64_t repetition = 0; ///< sum, in kRepetitionUnit
  uint64_t kept = 0;      ///< sum of the counts
  float rowMax = 0;       ///< nats

  /// One prompt's, -1 to 1 up to rounding.
  void addScore(double score);
  /// Mean score, -1 to 1.
  float score(uint32_t prompts) const;
};

/// The scalars of all sites as the files have them, a tensor each.
struct ScalarColumns {
  std::vector<int64_t> repetition;
  std::vector<uint64_t> kept;
  std::vector<float> rowMax;

  explicit ScalarColumns(std::span<const SiteScalars> scalars);
};

/// XXH3 over what a file has of a site, as stored; `best` is empty in Sums.
uint64_t siteHash(const SiteScalars &scalars, std::span<const uint8_t> best,
                  std::span<const uint8_t> energy, std::span<const uint8_t> count);

/// Open counts. Sites are checked when they are read. Safe from
/// several threads; does not lock, and does not see prompts folded in later.
class CountsReader {
public:
  static Result<CountsReader> open(const std::string &path);
  CountsReader(CountsReader &&) noexcept;
  CountsReader &operator=(CountsReader &&) noexcept;
  ~CountsReader();

  const std::string &path() const;
  CountsKind kind() const;
  /// Without rho and gamma; prompts and their hash are filled in.
  const ProfileHeader &header() const;
  const CountsLayout &layout() const;
  /// The document of the header as stored: equal where the problems are.
  const std::string &document() const;
  const std::vector<std::string> &prompts() const; ///< ascending
  /// Counts of version 1 have none: what they say besides sites is unchecked, and no prompt can be
  /// added.
  bool hasDigest() const;
  /// Number of the prompt a killed run was folding in; then sites are old or new.
  std::optional<uint32_t> interrupted() const;

  uint64_t siteIndex(uint32_t layer, uint32_t head, uint32_t step) const;
  SiteScalars scalars(uint64_t site) const;
  /// That what is stored of a site is what was written; site() does it too. Everything that is not
  /// per site is checked by open().
  Status checkHash(uint64_t site) const;
  /// Counts and energies of a site; of Means the energies are those of the codes.
  Result<SiteCounts> site(uint64_t site) const;
  /// The bytes of a tensor of a number a site, or of none, and of one site of any; unchecked.
  std::span<const uint8_t> table(CountsTensor tensor) const;
  Result<std::vector<uint8_t>> raw(CountsTensor tensor, uint64_t site) const;
  /// The table of prompt ids as stored.
  std::span<const uint8_t> promptIds() const;
  /// "layer 3, head 0, step 12".
  std::string siteName(uint64_t site) const;

private:
  struct StoredSite {
    std::vector<uint8_t> best, energy, count;
  };
  Status readSite(uint64_t site, StoredSite &stored) const;

  struct Impl;
  explicit CountsReader(std::unique_ptr<Impl>);
  std::unique_ptr<Impl> impl;
};

} // namespace calibatt

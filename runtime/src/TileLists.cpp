#include "runtime/src/TileLists.h"

#include <algorithm>
#include <bit>

namespace calibatt {
namespace {

/// CTAs by the time they are free at, in visits. Times are whole and only go up, so that a ring of
/// as many sets as the longest tile takes holds all that can come.
class FreeCtas {
public:
  FreeCtas(uint32_t ctas, uint32_t longest)
      : setWords((ctas + 63) / 64), times(longest + 1), bits(size_t(setWords) * times) {
    for (uint32_t cta = 0; cta < ctas; ++cta)
      add(cta, 0);
  }
  void add(uint32_t cta, uint32_t after) {
    bits[size_t((now + after) % times) * setWords + cta / 64] |= uint64_t(1) << cta % 64;
  }
  /// The first that is free; of several the lowest.
  uint32_t take() {
    for (;; ++now)
      for (uint32_t i = 0; i < setWords; ++i)
        if (uint64_t &word = bits[size_t(now % times) * setWords + i]) {
          const uint32_t bit = uint32_t(std::countr_zero(word));
          word &= word - 1;
          return i * 64 + bit;
        }
  }

private:
  uint32_t setWords, times, now = 0;
  std::vector<uint64_t> bits; ///< [times][setWords]
};

} // namespace

TileLists cutTileLists(std::span<const uint32_t> work, std::span<const uint32_t> visits,
                       uint32_t ctas) {
  const uint32_t longest = visits.empty() ? 0 : *std::max_element(visits.begin(), visits.end());
  FreeCtas free(ctas, longest + kTileOverheadVisits);
  std::vector<uint32_t> taker(work.size()), count(ctas);
  for (size_t i = 0; i < work.size(); ++i) {
    if (visits[i] == 0)
      continue;
    ++count[taker[i] = free.take()];
    free.add(taker[i], visits[i] + kTileOverheadVisits);
  }
  // While there are CTAs without a tile, the lowest of them is free first.
  const auto lists = size_t(std::find(count.begin(), count.end(), 0u) - count.begin());
  TileLists cut;
  cut.begins.resize(lists + 1);
  for (size_t list = 0; list < lists; ++list)
    cut.begins[list + 1] = cut.begins[list] + count[list];
  cut.work.resize(cut.begins.back());
  std::vector<uint32_t> at = cut.begins;
  for (size_t i = 0; i < work.size(); ++i)
    if (visits[i])
      cut.work[at[taker[i]]++] = work[i];
  return cut;
}

} // namespace calibatt

#include "runtime/src/TileLists.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <utility>

namespace calibatt {

TileLists cutTileLists(std::span<const uint32_t> work, std::span<const uint32_t> visits,
                       uint32_t ctas) {
  std::vector<std::vector<uint32_t>> lists;
  using FreeAt = std::pair<double, uint32_t>; // when, which CTA; ties go to the lower CTA
  std::priority_queue<FreeAt, std::vector<FreeAt>, std::greater<>> free;
  size_t tiles = 0;
  for (size_t i = 0; i < work.size(); ++i) {
    if (visits[i] == 0)
      continue;
    ++tiles;
    FreeAt next{0, uint32_t(lists.size())};
    if (lists.size() < ctas) {
      lists.emplace_back();
    } else {
      next = free.top();
      free.pop();
    }
    lists[next.second].push_back(work[i]);
    free.emplace(next.first + visits[i] + kTileOverheadVisits, next.second);
  }
  TileLists cut;
  cut.work.reserve(tiles);
  cut.begins.reserve(lists.size() + 1);
  for (const std::vector<uint32_t> &list : lists) {
    cut.begins.push_back(uint32_t(cut.work.size()));
    cut.work.insert(cut.work.end(), list.begin(), list.end());
  }
  cut.begins.push_back(uint32_t(cut.work.size()));
  return cut;
}

} // namespace calibatt

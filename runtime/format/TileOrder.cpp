#include "runtime/format/TileOrder.h"

#include "runtime/format/ScheduleLayout.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace calibatt {

namespace {

/// Appends the rows of [begin, end) that have visits, by falling visits, and the others to `last`.
/// Counting keeps equal ones in order.
void appendLongestFirst(std::span<const uint32_t> visits, size_t begin, size_t end,
                        std::vector<uint16_t> &order, std::vector<uint16_t> &last) {
  uint32_t most = 0;
  for (size_t row = begin; row < end; ++row)
    most = std::max(most, visits[row]);
  std::vector<uint32_t> at(most + 2, 0); // at[v]: rows with more than v visits
  for (size_t row = begin; row < end; ++row)
    if (visits[row])
      ++at[visits[row] - 1];
  for (uint32_t v = most; v-- > 0;)
    at[v] += at[v + 1];
  const size_t base = order.size();
  order.resize(base + at[0]);
  for (size_t row = begin; row < end; ++row) {
    if (visits[row])
      order[base + at[visits[row]]++] = uint16_t(row);
    else
      last.push_back(uint16_t(row));
  }
}

} // namespace

std::vector<uint16_t> orderTiles(TileOrder rule, std::span<const uint32_t> visits,
                                 uint32_t rowsPerHead) {
  std::vector<uint16_t> order, last;
  order.reserve(visits.size());
  if (rule == TileOrder::Longest) {
    appendLongestFirst(visits, 0, visits.size(), order, last);
  } else {
    const size_t heads = visits.size() / rowsPerHead;
    std::vector<uint64_t> total(heads);
    for (size_t row = 0; row < visits.size(); ++row)
      total[row / rowsPerHead] += visits[row];
    std::vector<size_t> byVisits(heads);
    std::iota(byVisits.begin(), byVisits.end(), size_t(0));
    std::stable_sort(byVisits.begin(), byVisits.end(),
                     [&](size_t a, size_t b) { return total[a] > total[b]; });
    for (size_t head : byVisits)
      appendLongestFirst(visits, head * rowsPerHead, (head + 1) * rowsPerHead, order, last);
  }
  order.insert(order.end(), last.begin(), last.end());
  return order;
}

std::vector<uint32_t> rowVisits(std::span<const uint8_t> image) {
  ScheduleHeader header;
  std::memcpy(&header, image.data(), sizeof(header));
  std::vector<uint32_t> visits(size_t(header.heads) * header.query_blocks);
  for (size_t row = 0; row < visits.size(); ++row) {
    RowEntry entry;
    std::memcpy(&entry, image.data() + header.rows_offset + row * sizeof(entry), sizeof(entry));
    visits[row] = entry.visits & kRowVisitsMask;
  }
  return visits;
}

} // namespace calibatt

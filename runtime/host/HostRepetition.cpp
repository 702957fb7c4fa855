#include "runtime/host/HostRepetition.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace calibatt {
namespace {

/// One head, [tokens, headDim] float32.
std::vector<float> loadHead(const HostLaunch &launch, const void *data, const HostStrides &strides,
                            uint32_t batch, uint32_t head) {
  const uint32_t tokens = launch.schedule->tokens, dim = launch.headDim;
  std::vector<float> rows(size_t(tokens) * dim);
  for (uint32_t t = 0; t < tokens; ++t) {
    const int64_t from =
        int64_t(batch) * strides.batch + int64_t(head) * strides.head + int64_t(t) * strides.token;
    for (uint32_t d = 0; d < dim; ++d)
      rows[size_t(t) * dim + d] = launch.dtype == HostDtype::F32
                                      ? static_cast<const float *>(data)[from + d]
                                      : bf16ToFloat(static_cast<const uint16_t *>(data)[from + d]);
  }
  return rows;
}

/// Dense log-sum-exps of one head.
Result<std::vector<float>> logSumExps(const HostLaunch &like, const std::vector<float> &q,
                                      const std::vector<float> &k, uint32_t threads) {
  Schedule schedule = *like.schedule;
  schedule.heads = 1;
  schedule.rowClass.resize(schedule.queryBlocks);
  std::vector<float> unused(q.size()), lse(schedule.tokens);
  HostLaunch launch;
  launch.schedule = &schedule;
  launch.headDim = like.headDim;
  launch.scale = like.scale;
  launch.dtype = HostDtype::F32;
  launch.q = q.data();
  launch.k = launch.v = k.data();
  launch.o = unused.data();
  launch.qStrides = launch.kStrides = launch.vStrides = launch.oStrides = {0, 0, like.headDim};
  launch.lse = lse.data();
  if (Status ran = runHostTiles(launch, hostTiles(launch, 1, 0, 1), threads); !ran)
    return ran.takeError();
  return lse;
}

/// Of one row that is a copy: `row` and `anchor` are their first tokens.
double cosine(const AnchorGrid &grid, const std::vector<float> &lse, const std::vector<float> &pair,
              const std::vector<float> &self, uint32_t row, uint32_t anchor) {
  double cross = 0, square = 0, anchorSquare = 0;
  for (uint32_t column = 0; column < grid.width; ++column) {
    const double ofRow = lse[row + column], ofAnchor = lse[anchor + column];
    cross += std::exp(pair[row + column] - ofRow - ofAnchor);
    square += std::exp(self[row + column] - 2 * ofRow);
    anchorSquare += std::exp(self[anchor + column] - 2 * ofAnchor);
  }
  return cross / std::sqrt(square * anchorSquare);
}

/// The mean of the middle two where their number is even.
double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
}

} // namespace

Status scoreRepetition(const HostLaunch &launch, const AnchorGrid &grid, uint32_t batch,
                       uint32_t heads, uint32_t threads, float *scores) {
  const uint32_t tokens = launch.schedule->tokens, dim = launch.headDim;
  for (uint32_t head = 0; head < batch * heads; ++head) {
    const std::vector<float> q =
        loadHead(launch, launch.q, launch.qStrides, head / heads, head % heads);
    const std::vector<float> k =
        loadHead(launch, launch.k, launch.kStrides, head / heads, head % heads);
    std::vector<float> paired(q.size()), doubled(q.size());
    for (uint32_t t = 0; t < tokens; ++t)
      for (uint32_t d = 0; d < dim; ++d) {
        const size_t at = size_t(t) * dim + d;
        paired[at] = q[at] + q[size_t(anchorToken(grid, t)) * dim + d];
        doubled[at] = 2 * q[at];
      }
    std::vector<std::vector<float>> found;
    for (const std::vector<float> *queries :
         {&q, &std::as_const(paired), &std::as_const(doubled)}) {
      auto lse = logSumExps(launch, *queries, k, threads);
      if (!lse)
        return lse.takeError();
      found.push_back(lse.take());
    }
    std::vector<double> cosines;
    for (uint32_t row = 0; row < tokens; row += grid.width)
      if (const uint32_t anchor = anchorToken(grid, row); anchor != row)
        cosines.push_back(cosine(grid, found[0], found[1], found[2], row, anchor));
    scores[head] = float(median(std::move(cosines)));
  }
  return {};
}

} // namespace calibatt

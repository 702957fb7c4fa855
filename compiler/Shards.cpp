#include "compiler/Shards.h"

#include "calib_profiles/Profile.h"

#include <algorithm>
#include <fmt/format.h>
#include <numeric>

namespace calibatt {

Result<std::vector<uint32_t>> layersOfShard(const ProfileReader &profile, ShardNumber shard) {
  const ProfileHeader &header = profile.header();
  if (shard.count > header.layers)
    return Error{fmt::format("--shard {}/{}: {} has {} layers, and a shard is one at least",
                             shard.index, shard.count, profile.path(), header.layers)};
  std::vector<double> blocks(header.layers, 0);
  for (uint32_t layer = 0; layer < header.layers; ++layer)
    for (uint32_t head = 0; head < header.heads; ++head)
      for (uint32_t step = 0; step < header.stepCount(); ++step)
        blocks[layer] += profile.stats(layer, head, step).density;
  // The heaviest layer that is left to the shard that has least, among those that may have more.
  std::vector<uint32_t> order(header.layers);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](uint32_t a, uint32_t b) { return blocks[a] > blocks[b]; });
  struct Share {
    std::vector<uint32_t> layers;
    double blocks = 0;
  };
  std::vector<Share> shares(shard.count);
  const size_t most = (header.layers + shard.count - 1) / shard.count;
  for (uint32_t layer : order) {
    Share *least = nullptr;
    for (Share &share : shares)
      if (share.layers.size() < most && (!least || share.blocks < least->blocks))
        least = &share;
    least->layers.push_back(layer);
    least->blocks += blocks[layer];
  }
  std::vector<uint32_t> &layers = shares[shard.index - 1].layers;
  std::sort(layers.begin(), layers.end());
  return std::move(layers);
}

std::string shapingOptions(const CompileOptions &options) {
  std::string text = fmt::format(
      "--arch {} --form {} --granularity {} --unroll-budget {},{} --tile-order {}", options.arch,
      options.form ? formName(*options.form) : "auto", options.perHead ? "head" : "step",
      options.unrollBudgetBytes, options.unrollBudgetSeconds, options.tileOrder);
  if (options.shareStepsTau > 0)
    text += fmt::format(" --share-steps {}", options.shareStepsTau);
  if (options.softmax != "auto")
    text += fmt::format(" --softmax {}", options.softmax);
  if (!options.tuning.empty())
    text += fmt::format(" --tune {}", options.tuning);
  return text;
}

} // namespace calibatt

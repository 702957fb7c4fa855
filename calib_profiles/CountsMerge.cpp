// Adds site by site; whole numbers make the order immaterial.
#include "calib_profiles/CountsMerge.h"
#include "calib_profiles/EnergyUnits.h"
#include "calib_profiles/ParallelFor.h"
#include "calib_profiles/ProfileHeader.h"
#include "runtime/format/Quantity.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <filesystem>

namespace calibatt {

namespace {

Result<std::vector<LockedCounts>> openAll(const std::vector<std::string> &paths) {
  std::vector<LockedCounts> inputs;
  for (const std::string &path : paths) {
    Result<LockedCounts> input = LockedCounts::open(path);
    if (!input)
      return input.takeError();
    if (input->counts.kind() != CountsKind::Sums)
      return Error{fmt::format("{}: has mean energies only, which cannot be added: merge the "
                               "counts it was made from",
                               path)};
    if (!inputs.empty())
      if (Status s = checkSameProblem(inputs[0].counts.header(), inputs[0].counts.path(),
                                      input->counts.header(), path);
          !s)
        return s.takeError();
    inputs.push_back(input.take());
  }
  return inputs;
}

/// The ids of all inputs, ascending.
Result<std::vector<std::string>> unitePrompts(const std::vector<LockedCounts> &inputs) {
  std::vector<std::pair<std::string, std::string>> all; // with the file
  for (const LockedCounts &input : inputs)
    for (const std::string &id : input.counts.prompts())
      all.emplace_back(id, input.counts.path());
  std::sort(all.begin(), all.end());
  for (size_t i = 1; i < all.size(); ++i)
    if (all[i].first == all[i - 1].first)
      return Error{fmt::format("{}: prompt \"{}\" is in {} too", all[i].second, all[i].first,
                               all[i - 1].second)};
  if (all.size() > SiteCounts::kMaxPrompts)
    return Error{fmt::format("the counts have {} together, wanted at most {}: counts are 8 bits",
                             counted(all.size(), "prompt"), SiteCounts::kMaxPrompts)};
  std::vector<std::string> ids;
  ids.reserve(all.size());
  for (auto &entry : all)
    ids.push_back(std::move(entry.first));
  return ids;
}

class Merge {
public:
  Merge(const std::vector<LockedCounts> &inputs, CountsLayout layout, PlacedFile file)
      : inputs(inputs), layout(std::move(layout)), file(std::move(file)),
        scalars(this->layout.sites), hashes(this->layout.sites) {}

  Status addSite(uint64_t index) {
    SiteCounts sum;
    SiteScalars &all = scalars[index];
    for (const LockedCounts &input : inputs) {
      Result<SiteCounts> site = input.counts.site(index);
      if (!site)
        return site.takeError();
      const SiteScalars more = input.counts.scalars(index);
      // Without prompts a row maximum is not a maximum of anything.
      if (site->prompts)
        all.rowMax = sum.prompts ? std::max(all.rowMax, more.rowMax) : more.rowMax;
      all.repetition += more.repetition;
      all.kept += more.kept;
      if (sum.counts.empty()) {
        sum = site.take();
        continue;
      }
      sum.prompts += site->prompts;
      for (size_t i = 0; i < sum.counts.size(); ++i) {
        sum.counts[i] = uint8_t(sum.counts[i] + site->counts[i]);
        sum.energySums[i] += site->energySums[i];
      }
    }
    return write(index, sum);
  }

  Status finish(const std::vector<std::string> &ids) {
    const ScalarColumns columns(scalars);
    const std::vector<uint64_t> state = {ids.size(), 0};
    const std::vector<uint8_t> prompts = packPromptIds(ids);
    const Sha256Digest digest = countsDigest(layout.document, bytesOf(state), prompts);
    for (const auto &[tensor, bytes] : {std::pair{CountsTensor::State, bytesOf(state)},
                                        {CountsTensor::SiteHash, bytesOf(hashes)},
                                        {CountsTensor::Repetition, bytesOf(columns.repetition)},
                                        {CountsTensor::Kept, bytesOf(columns.kept)},
                                        {CountsTensor::RowMax, bytesOf(columns.rowMax)},
                                        {CountsTensor::PromptIds, bytesOf(prompts)},
                                        {CountsTensor::Digest, bytesOf(digest)}})
      if (Status s = file.writeAt(layout.at(tensor, 0), bytes); !s)
        return s;
    return file.commit();
  }

private:
  Status write(uint64_t index, const SiteCounts &sum) {
    std::vector<uint16_t> best;
    std::vector<uint8_t> codes;
    if (layout.kind == CountsKind::Means) {
      for (uint32_t r = 0; r < sum.blocks; ++r)
        best.push_back(uint16_t(sum.bestColumn(r)));
      for (uint32_t energy : sum.energySums)
        codes.push_back(energyCode(energy, std::max(1u, sum.prompts)));
    }
    const auto energy = layout.kind == CountsKind::Means ? bytesOf(codes) : bytesOf(sum.energySums);
    hashes[index] = siteHash(scalars[index], bytesOf(best), energy, sum.counts);
    for (const auto &[tensor, bytes] : {std::pair{CountsTensor::Best, bytesOf(best)},
                                        {CountsTensor::Energy, energy},
                                        {CountsTensor::Count, bytesOf(sum.counts)}})
      if (!bytes.empty())
        if (Status s = file.writeAt(layout.at(tensor, index), bytes); !s)
          return s;
    return {};
  }

  const std::vector<LockedCounts> &inputs;
  CountsLayout layout;
  PlacedFile file;
  std::vector<SiteScalars> scalars;
  std::vector<uint64_t> hashes;
};

} // namespace

Status mergeCounts(const std::vector<std::string> &inputPaths, const std::string &output,
                   CountsKind kind, unsigned jobs,
                   const std::function<void(uint64_t done, uint64_t sites)> &progress) {
  for (const std::string &path : inputPaths)
    if (std::error_code ignored; std::filesystem::equivalent(path, output, ignored))
      return Error{fmt::format("{}: is an input; the result needs another name", output)};
  Result<CountsLock> outputLock = CountsLock::forWriting(output);
  if (!outputLock)
    return outputLock.takeError();
  Result<std::vector<LockedCounts>> inputs = openAll(inputPaths);
  if (!inputs)
    return inputs.takeError();
  Result<std::vector<std::string>> ids = unitePrompts(*inputs);
  if (!ids)
    return ids.takeError();
  ProfileHeader header = (*inputs)[0].counts.header();
  header.tool = kToolName;
  Result<CountsLayout> layout = CountsLayout::create(header, kind, output);
  if (!layout)
    return layout.takeError();
  Result<PlacedFile> file = PlacedFile::create(output, layout->plan);
  if (!file)
    return file.takeError();
  const uint64_t sites = layout->sites;
  Merge merge(*inputs, layout.take(), file.take());
  std::atomic<uint64_t> done{0};
  if (Status s = parallelFor(sites, jobs,
                             [&](uint64_t site) {
                               Status status = merge.addSite(site);
                               progress(++done, sites);
                               return status;
                             });
      !s)
    return s;
  return merge.finish(*ids);
}

} // namespace calibatt

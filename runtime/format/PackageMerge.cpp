// Puts into a writer what the driver of a compile puts there, in its order, from the shards instead
// of from the compiler: equal calls give equal bytes.
#include "runtime/format/PackageMerge.h"

#include "runtime/format/Package.h"
#include "runtime/format/PackageRemarks.h"
#include "runtime/format/PackageTables.h"
#include "runtime/format/ScheduleDecoder.h"
#include "runtime/format/ScheduleEncoder.h"

#include <algorithm>
#include <filesystem>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <map>

namespace calibatt {

namespace {

class Merge {
public:
  Status open(const std::vector<std::string> &paths);
  Result<MergeSummary> write(const std::string &output);

private:
  struct Input {
    PackageReader reader;
    ScheduleDecoder decoder{reader};
    std::map<uint32_t, uint32_t> kernels = {}; ///< of the shard -> of the package

    explicit Input(PackageReader opened) : reader(std::move(opened)) {}
    const Shard &shard() const { return *reader.manifest().shard; }
  };
  /// Why two of them are not of one compile.
  Status compare(const Input &one, const Input &other) const;
  Status checkSet() const;
  Status takeLayer(uint32_t layer, Input &input);
  Status takeKernels(Input &input, const std::vector<uint32_t> &numbers);
  Result<uint32_t> takeSource(Input &input, uint32_t code);
  Status takeCodes();

  std::vector<std::unique_ptr<Input>> inputs; ///< by number
  std::vector<Input *> ownerOf;               ///< of each layer
  std::optional<PackageWriter> writer;
  /// The code images, each where it is used first.
  struct Source {
    Input *input;
    uint32_t code;
  };
  std::vector<Source> sources;
  std::map<std::string, uint32_t> sourceOf; ///< by symbol
  std::vector<KernelRecord> records;        ///< code is an index of `sources`
};

Status Merge::open(const std::vector<std::string> &paths) {
  for (const std::string &path : paths) {
    auto reader = PackageReader::openShard(path);
    if (!reader)
      return reader.takeError();
    inputs.push_back(std::make_unique<Input>(reader.take()));
    if (Status same = compare(*inputs.front(), *inputs.back()); !same)
      return same;
  }
  std::stable_sort(inputs.begin(), inputs.end(), [](const auto &a, const auto &b) {
    return a->shard().index < b->shard().index;
  });
  if (Status whole = checkSet(); !whole)
    return whole;
  ownerOf.assign(inputs.front()->reader.manifest().problem.layers, nullptr);
  for (const auto &input : inputs)
    for (uint32_t layer : input->shard().layers) {
      if (ownerOf[layer])
        return Error{fmt::format("{} and {} both have layer {}", ownerOf[layer]->reader.path(),
                                 input->reader.path(), layer)};
      ownerOf[layer] = input.get();
    }
  for (uint32_t layer = 0; layer < ownerOf.size(); ++layer)
    if (!ownerOf[layer])
      return Error{fmt::format("no shard has layer {}", layer)};
  return {};
}

Status Merge::compare(const Input &one, const Input &other) const {
  const Manifest &a = one.reader.manifest(), &b = other.reader.manifest();
  auto differ = [&](const char *what, const auto &first, const auto &second) -> Status {
    return Error{fmt::format("{} and {} are shards of different compiles: {} is {} and {}",
                             one.reader.path(), other.reader.path(), what, first, second)};
  };
  if (a.profileDigest != b.profileDigest)
    return differ("the digest of the profile", a.profileDigest, b.profileDigest);
  if (one.shard().options != other.shard().options)
    return differ("the options", one.shard().options, other.shard().options);
  if (a.toolchain != b.toolchain)
    return differ("the toolchain", a.toolchain, b.toolchain);
  if (a.toolchainDigest != b.toolchainDigest)
    return differ("the digest of the toolchain", a.toolchainDigest, b.toolchainDigest);
  if (one.shard().count != other.shard().count)
    return differ("the number of shards", one.shard().count, other.shard().count);
  // What follows from the above, unless a file was made by something else.
  Manifest first = a, second = b;
  for (Manifest *manifest : {&first, &second}) {
    manifest->shard.reset();
    manifest->remarks.clear();
  }
  const std::string firstText = manifestToJson(first, 0).dump(),
                    secondText = manifestToJson(second, 0).dump();
  return firstText == secondText ? Status() : differ("the manifest", firstText, secondText);
}

Status Merge::checkSet() const {
  const uint32_t count = inputs.front()->shard().count;
  std::vector<uint32_t> missing;
  for (uint32_t index = 1, at = 0; index <= count; ++index) {
    const size_t begin = at;
    while (at < inputs.size() && inputs[at]->shard().index == index)
      ++at;
    if (at - begin > 1)
      return Error{fmt::format("{} and {} are both shard {} of {}", inputs[begin]->reader.path(),
                               inputs[begin + 1]->reader.path(), index, count)};
    if (at == begin)
      missing.push_back(index);
  }
  if (!missing.empty())
    return Error{fmt::format("{} {} of {} {} missing", missing.size() == 1 ? "shard" : "shards",
                             fmt::join(missing, ", "), count, missing.size() == 1 ? "is" : "are")};
  return {};
}

/// The index in `sources` of a shard's code image.
Result<uint32_t> Merge::takeSource(Input &input, uint32_t code) {
  const std::string &symbol = input.reader.codeInfo(code).symbol;
  auto [entry, isNew] = sourceOf.try_emplace(symbol, uint32_t(sources.size()));
  if (isNew) {
    sources.push_back({&input, code});
  } else if (Source &first = sources[entry->second]; first.input != &input || first.code != code) {
    auto one = first.input->reader.fatbin(first.code), other = input.reader.fatbin(code);
    if (!one)
      return one.takeError();
    if (!other)
      return other.takeError();
    if (*one != *other)
      return Error{fmt::format("{} and {} have different code for {}", first.input->reader.path(),
                               input.reader.path(), symbol)};
  }
  return entry->second;
}

/// Kernels of one layer (or the dense one), and their schedules.
Status Merge::takeKernels(Input &input, const std::vector<uint32_t> &numbers) {
  ScheduleEncoder encoder;
  std::vector<uint32_t> schedules;
  for (uint32_t number : numbers) {
    const KernelRecord &kernel = input.reader.kernel(number);
    schedules.push_back(kNone);
    if (kernel.data == kNone)
      continue;
    auto image = input.decoder.image(kernel.data);
    if (!image)
      return image.takeError();
    auto masks = masksOfImage(*image, fmt::format("{}: kernel {}", input.reader.path(), number));
    if (!masks)
      return masks.takeError();
    auto added = encoder.add(masks.take(), *image, kernel.headBase);
    if (!added)
      return added.takeError();
    schedules.back() = *added;
  }
  const std::vector<uint32_t> stored = writer->addSchedules(encoder.take());
  for (size_t i = 0; i < numbers.size(); ++i) {
    KernelRecord record = input.reader.kernel(numbers[i]);
    auto source = takeSource(input, record.code);
    if (!source)
      return source.takeError();
    record.code = *source;
    if (record.data != kNone)
      record.data = stored[schedules[i]];
    if (record.order != kNone) {
      auto order = input.reader.order(record.order);
      if (!order)
        return order.takeError();
      record.order = writer->addOrder(*order);
    }
    input.kernels[numbers[i]] = uint32_t(records.size());
    records.push_back(std::move(record));
  }
  return {};
}

Status Merge::takeLayer(uint32_t layer, Input &input) {
  const PackageReader &reader = input.reader;
  std::vector<uint32_t> numbers;
  for (uint32_t number = 0; number < reader.kernelCount(); ++number)
    if (reader.kernel(number).layer == layer)
      numbers.push_back(number);
  if (Status status = takeKernels(input, numbers); !status)
    return status;
  const Problem &problem = reader.manifest().problem;
  for (uint32_t head = 0; head < problem.heads; ++head)
    for (uint32_t step = 0; step < problem.steps; ++step) {
      auto kernel = input.kernels.find(reader.route(layer, head, step));
      if (kernel == input.kernels.end())
        return Error{fmt::format("{}: route: layer {}, head {}, step {}: its kernel is of another "
                                 "layer",
                                 reader.path(), layer, head, step)};
      writer->setRoute(layer, head, step, kernel->second);
      writer->setStats(layer, head, step, reader.stats(layer, head, step));
    }
  auto ir = reader.ir(layer);
  if (!ir)
    return ir.takeError();
  writer->setIr(layer, *ir);
  const Shard &shard = input.shard();
  const size_t place =
      size_t(std::find(shard.layers.begin(), shard.layers.end(), layer) - shard.layers.begin());
  for (const std::string &remark : shard.remarks[place])
    writer->addRemark(remark);
  return {};
}

Status Merge::takeCodes() {
  std::vector<uint32_t> codes;
  for (const Source &source : sources) {
    const PackageReader &reader = source.input->reader;
    CodeImage image = reader.codeInfo(source.code);
    auto fatbin = reader.fatbin(source.code);
    auto cuda = reader.cuda(source.code), ptx = reader.ptx(source.code);
    if (!fatbin)
      return fatbin.takeError();
    if (!cuda)
      return cuda.takeError();
    if (!ptx)
      return ptx.takeError();
    image.fatbin = fatbin.take();
    image.cuda = cuda.take();
    image.ptx = ptx.take();
    if (std::string remark = spillRemark(image); !remark.empty())
      writer->addRemark(remark);
    codes.push_back(writer->addCode(image));
  }
  for (KernelRecord &record : records) {
    record.code = codes[record.code];
    writer->addKernel(record);
  }
  return {};
}

Result<MergeSummary> Merge::write(const std::string &output) {
  Input &first = *inputs.front();
  Manifest manifest = first.reader.manifest();
  manifest.shard.reset();
  manifest.remarks.clear();
  const Problem problem = manifest.problem;
  writer.emplace(std::move(manifest));

  uint64_t repetitive = 0;
  for (uint32_t layer = 0; layer < problem.layers; ++layer) {
    if (Status status = takeLayer(layer, *ownerOf[layer]); !status)
      return status.takeError();
    for (uint32_t head = 0; head < problem.heads; ++head)
      for (uint32_t step = 0; step < problem.steps; ++step)
        repetitive += ownerOf[layer]->reader.isRepetitive(layer, head, step);
  }
  if (repetitive)
    writer->addRemark(
        repetitionRemark(repetitive, uint64_t(problem.layers) * problem.heads * problem.steps));
  if (Status status = takeKernels(first, {first.reader.denseKernel()}); !status)
    return status.takeError();
  writer->setDenseKernel(uint32_t(records.size() - 1));
  if (Status status = takeCodes(); !status)
    return status.takeError();
  if (Status status = writer->write(output); !status)
    return status.takeError();

  MergeSummary summary;
  summary.shards = uint32_t(inputs.size());
  summary.layers = problem.layers;
  summary.kernels = uint32_t(records.size());
  summary.codeImages = uint32_t(sources.size());
  std::error_code ignored;
  summary.packageBytes = std::filesystem::file_size(output, ignored);
  return summary;
}

} // namespace

Result<MergeSummary> mergePackages(const std::vector<std::string> &shards,
                                   const std::string &output) {
  Merge merge;
  if (shards.empty())
    return Error{"no shards to merge"};
  if (Status status = merge.open(shards); !status)
    return status.takeError();
  for (const std::string &shard : shards)
    if (std::error_code ignored; std::filesystem::equivalent(shard, output, ignored))
      return Error{fmt::format("{}: is a shard; the package needs another name", output)};
  return merge.write(output);
}

} // namespace calibatt

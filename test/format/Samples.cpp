// See Samples.h.
#include "test/format/Samples.h"

#include <algorithm>
#include <fstream>
#include <numeric>
#include <stdexcept>
#include <unistd.h>

namespace calibatt::test {
namespace {

/// The samples also serve programs without a test framework.
void require(bool holds, const std::string &what) {
  if (!holds)
    throw std::runtime_error(what);
}

} // namespace

Random::Random() : seed(std::random_device{}()), engine(seed) {}

uint64_t Random::integer(uint64_t low, uint64_t high) {
  return std::uniform_int_distribution<uint64_t>(low, high)(engine);
}

double Random::real(double low, double high) {
  return std::uniform_real_distribution<double>(low, high)(engine);
}

std::vector<uint8_t> Random::bytes(size_t count) {
  std::vector<uint8_t> bytes(count);
  for (uint8_t &byte : bytes)
    byte = uint8_t(engine());
  return bytes;
}

std::string Random::text(size_t count) {
  std::string text(count, ' ');
  for (char &c : text)
    c = char('a' + integer(0, 25));
  return text;
}

ScratchFolder::ScratchFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "calibatt-test-XXXXXX").string();
  require(::mkdtemp(pattern.data()) != nullptr, "cannot create " + pattern);
  folder = pattern;
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
}

std::vector<std::string> ScratchFolder::list() const {
  std::vector<std::string> names;
  for (const auto &entry : std::filesystem::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<uint8_t> readBytes(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  require(in.good(), "cannot read " + path);
  return {std::istreambuf_iterator<char>(in), {}};
}

void writeBytes(const std::string &path, std::span<const uint8_t> bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char *>(bytes.data()), std::streamsize(bytes.size()));
  require(out.good(), "cannot write " + path);
}

void patchByte(const std::string &path, size_t offset, uint8_t value) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(std::streamoff(offset));
  file.put(char(value));
  require(file.flush().good(), "cannot write " + path);
}

std::vector<uint8_t> container(const std::string &header, std::span<const uint8_t> data) {
  std::vector<uint8_t> bytes(8 + header.size() + data.size());
  for (int i = 0; i < 8; ++i)
    bytes[i] = uint8_t(uint64_t(header.size()) >> (8 * i));
  std::copy(header.begin(), header.end(), bytes.begin() + 8);
  std::copy(data.begin(), data.end(), bytes.begin() + 8 + int64_t(header.size()));
  return bytes;
}

Schedule randomSchedule(Random &random, uint32_t tokens, uint32_t heads, double density) {
  Schedule schedule;
  schedule.tokens = tokens;
  schedule.heads = heads;
  schedule.queryBlocks = schedule.keyBlocks = (tokens + kBlock - 1) / kBlock;
  for (uint32_t row = 0; row < heads * schedule.queryBlocks; ++row) {
    if (row && random.integer(0, 3) == 0) {
      schedule.rowClass.push_back(uint32_t(random.integer(0, schedule.classes.size() - 1)));
      continue;
    }
    std::vector<uint16_t> blocks;
    for (uint32_t block = schedule.keyBlocks; block-- > 0;)
      if (block == row % schedule.queryBlocks || random.real(0, 1) < density)
        blocks.push_back(uint16_t(block));
    schedule.rowClass.push_back(uint32_t(schedule.classes.size()));
    schedule.classes.push_back(std::move(blocks));
  }
  return schedule;
}

Schedule withAnchors(Schedule schedule, const AnchorGrid &grid) {
  std::vector<uint16_t> dense(schedule.keyBlocks);
  std::iota(dense.rbegin(), dense.rend(), uint16_t(0));
  schedule.classes.push_back(dense);
  const uint32_t head = schedule.heads - 1;
  schedule.repetitive.assign(schedule.heads, 0);
  schedule.repetitive[head] = 1;
  schedule.grid = grid;
  for (uint32_t q = 0; q < schedule.queryBlocks; ++q)
    schedule.rowClass[head * schedule.queryBlocks + q] =
        q < packedTiles(grid, schedule.tokens) ? uint32_t(schedule.classes.size() - 1) : kAbsentRow;
  return canonicalSchedule(schedule); // without the classes of the rows that were replaced
}

uint64_t visitsOf(const Schedule &schedule) {
  uint64_t visits = 0;
  for (uint32_t rowClass : schedule.rowClass)
    if (rowClass != kAbsentRow)
      visits += schedule.classes[rowClass].size();
  return visits;
}

PackageContent randomContent(Random &random, size_t codeBytes) {
  PackageContent content;
  Problem &p = content.manifest.problem;
  p.model = "random \"model\" " + random.text(4);
  p.frames = 3;
  p.height = 7;
  p.width = 20;
  p.tokens = 420;
  p.layers = 2;
  p.heads = 2;
  p.steps = 3;
  p.headDim = 64;
  p.scale = random.real(0.01, 1);
  content.manifest.repetition = {random.real(0.1, 0.9), 5};
  content.manifest.archs = {"sm_90a"};
  content.manifest.profileDigest = random.text(64);
  content.manifest.supersetPasses = {{kShareStepsPass, random.real(0.01, 1)}, {"other", 3}};
  content.manifest.toolchain = "a compiler";
  content.manifest.toolchainDigest = random.text(64);
  content.manifest.remarks = {"a remark"};
  for (Form form : {Form::Runs, Form::Table})
    content.codes.push_back({.symbol = "calibatt_" + random.text(8),
                             .form = form,
                             .arch = "sm_90a",
                             .fatbin = random.bytes(codeBytes),
                             .cuda = "// " + random.text(codeBytes),
                             .ptx = form == Form::Runs ? std::string() : random.text(codeBytes),
                             .registers = uint32_t(random.integer(32, 255)),
                             .spillStores = 4,
                             .spillLoads = 8,
                             .staticSmem = 16,
                             .dynamicSmem = 100000,
                             .codeBytes = uint32_t(codeBytes)});
  auto addKernel = [&](uint32_t layer, uint32_t step, const Schedule &schedule) {
    uint32_t code = uint32_t(random.integer(0, 1));
    std::vector<uint16_t> order(schedule.rowClass.size());
    std::iota(order.begin(), order.end(), uint16_t(0));
    std::shuffle(order.begin(), order.end(), random.engine);
    auto place = [](auto &list, auto value) {
      auto found = std::find(list.begin(), list.end(), value);
      if (found != list.end())
        return uint32_t(found - list.begin());
      list.push_back(std::move(value));
      return uint32_t(list.size() - 1);
    };
    KernelRecord kernel;
    kernel.code = code;
    kernel.data = place(content.datas, buildScheduleImage(schedule, content.codes[code].form));
    kernel.order = place(content.orders, order);
    kernel.layer = layer;
    kernel.step = step;
    kernel.heads = p.heads;
    kernel.visits = visitsOf(schedule);
    kernel.predictedMicros = float(random.real(1, 100));
    kernel.reason = "because " + random.text(3);
    content.kernels.push_back(kernel);
    return uint32_t(content.kernels.size() - 1);
  };
  content.routes.resize(size_t(p.layers) * p.heads * p.steps);
  for (uint32_t layer = 0; layer < p.layers; ++layer) {
    content.ir.push_back("module " + random.text(codeBytes));
    for (uint32_t step = 0; step < p.steps; ++step) {
      uint32_t kernel = addKernel(layer, step, randomSchedule(random, p.tokens, p.heads, 0.4));
      for (uint32_t head = 0; head < p.heads; ++head)
        content.routes[(layer * p.heads + head) * p.steps + step] = kernel;
    }
  }
  content.dense = addKernel(kNone, kNone, randomSchedule(random, p.tokens, p.heads, 1));
  for (size_t site = 0; site < content.routes.size(); ++site)
    content.stats.push_back(
        {float(random.real(0, 1)), float(random.real(0, 1)), float(random.real(0, 1))});
  return content;
}

PackageWriter fill(const PackageContent &content) {
  PackageWriter writer(content.manifest);
  for (const CodeImage &code : content.codes)
    writer.addCode(code);
  for (const std::vector<uint8_t> &data : content.datas)
    writer.addData(data);
  for (const std::vector<uint16_t> &order : content.orders)
    writer.addOrder(order);
  for (const KernelRecord &kernel : content.kernels)
    writer.addKernel(kernel);
  const Problem &p = content.manifest.problem;
  size_t site = 0;
  for (uint32_t layer = 0; layer < p.layers; ++layer)
    for (uint32_t head = 0; head < p.heads; ++head)
      for (uint32_t step = 0; step < p.steps; ++step, ++site) {
        writer.setRoute(layer, head, step, content.routes[site]);
        writer.setStats(layer, head, step, content.stats[site]);
      }
  for (uint32_t layer = 0; layer < p.layers; ++layer)
    writer.setIr(layer, content.ir[layer]);
  writer.setDenseKernel(content.dense);
  return writer;
}

} // namespace calibatt::test

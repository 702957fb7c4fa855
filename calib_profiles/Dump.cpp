// Opens a dump and converts one head's Q and K at a time.
#include "calib_profiles/Dump.h"
#include "calib_profiles/ProfileHeader.h"
#include "runtime/format/Quantity.h"
#include "runtime/format/Safetensors.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstring>

namespace calibatt {

namespace {

Result<DumpHeader> decodeDump(const std::string &text, const std::string &where) {
  Result<Json> json = parseJson(text, where);
  if (!json)
    return json.takeError();
  JsonFields fields(*json, where);
  const uint64_t version = fields.integer("version");
  if (Status s = fields.status(); !s)
    return s.takeError();
  if (version != 1)
    return Error{fmt::format("{}: version: got {}, wanted 1", where, version)};
  DumpHeader h;
  h.model = fields.string("model");
  h.grid = readGrid(fields);
  h.headDim = fields.u32("head_dim");
  h.layers = fields.u32("layers");
  h.heads = fields.u32("heads");
  h.steps = readSteps(fields, kMaxSteps);
  h.promptId = fields.string("prompt_id");
  h.scale = fields.number("scale");
  if (Status s = fields.status(); !s)
    return s.takeError();
  ProfileHeader limits; // a dump has the limits of the profile it becomes
  limits.grid = h.grid;
  limits.layers = h.layers;
  limits.heads = h.heads;
  limits.headDim = h.headDim;
  limits.steps = h.steps;
  limits.scale = h.scale;
  if (Status s = validateHeader(limits, where); !s)
    return s.takeError();
  return h;
}

} // namespace

struct DumpReader::Impl {
  SafetensorsReader file;
  DumpHeader header;
  std::vector<TensorEntry> tensors; // [layers, steps, 2]: q, k

  Status collect();
  Status convert(const TensorEntry &tensor, uint32_t head, std::vector<float> &values) const;
};

DumpReader::DumpReader(std::unique_ptr<Impl> i) : impl(std::move(i)) {}
DumpReader::DumpReader(DumpReader &&) noexcept = default;
DumpReader &DumpReader::operator=(DumpReader &&) noexcept = default;
DumpReader::~DumpReader() = default;

const std::string &DumpReader::path() const { return impl->file.path(); }
const DumpHeader &DumpReader::header() const { return impl->header; }

Result<DumpReader> DumpReader::open(const std::string &path) {
  Result<SafetensorsReader> file = SafetensorsReader::open(path);
  if (!file)
    return file.takeError();
  const std::string *document = file->metadata(kDumpKey);
  if (!document)
    return Error{fmt::format("{}: __metadata__ has no \"{}\", so this is not a dump of Q and K",
                             path, kDumpKey)};
  Result<DumpHeader> header = decodeDump(*document, path + ": " + kDumpKey);
  if (!header)
    return header.takeError();
  auto impl = std::make_unique<Impl>(Impl{file.take(), header.take()});
  if (Status s = impl->collect(); !s)
    return s.takeError();
  return DumpReader(std::move(impl));
}

Status DumpReader::Impl::collect() {
  const std::vector<uint64_t> shape = {header.heads, header.grid.tokens(), header.headDim};
  const TensorEntry *first = file.find("q.0.0");
  const DType dtype = first ? first->dtype : DType::BF16;
  if (dtype != DType::BF16 && dtype != DType::F32)
    return Error{fmt::format("{}: tensor \"q.0.0\": got {}, wanted BF16 or F32", file.path(),
                             dtypeName(dtype))};
  header.dtype = dtype == DType::BF16 ? "bf16" : "f32";
  for (uint32_t layer = 0; layer < header.layers; ++layer)
    for (uint32_t step = 0; step < header.steps.size(); ++step)
      for (const char *which : {"q", "k"}) {
        Result<TensorEntry> tensor =
            file.entry(fmt::format("{}.{}.{}", which, layer, step), dtype, shape);
        if (!tensor)
          return tensor.takeError();
        tensors.push_back(tensor.take());
      }
  size_t dumped = 0;
  for (const TensorEntry &tensor : file.tensors())
    dumped += tensor.name.starts_with("q.") || tensor.name.starts_with("k.");
  if (dumped != tensors.size())
    return Error{fmt::format("{}: got {} named q.* or k.*, wanted {} ({} x {} x 2)", file.path(),
                             counted(dumped, "tensor"), tensors.size(),
                             counted(header.layers, "layer"),
                             counted(header.steps.size(), "step"))};
  return {};
}

Status DumpReader::Impl::convert(const TensorEntry &tensor, uint32_t head,
                                 std::vector<float> &values) const {
  const uint64_t count = header.grid.tokens() * header.headDim, first = head * count;
  values.resize(count);
  const std::span<uint8_t> bytes(reinterpret_cast<uint8_t *>(values.data()), count * sizeof(float));
  if (tensor.dtype == DType::BF16) {
    // Read into the back half, so that widening from the front overwrites what is done.
    const std::span<uint8_t> narrow = bytes.subspan(count * sizeof(uint16_t));
    if (Status s = file.read(tensor, first * sizeof(uint16_t), narrow); !s)
      return s;
    for (uint64_t i = 0; i < count; ++i) {
      uint16_t value;
      std::memcpy(&value, narrow.data() + i * sizeof value, sizeof value);
      values[i] = std::bit_cast<float>(uint32_t(value) << 16);
    }
  } else if (Status s = file.read(tensor, first * sizeof(float), bytes); !s) {
    return s;
  }
  for (uint64_t i = 0; i < count; ++i)
    if (!std::isfinite(values[i]))
      return Error{fmt::format("{}: {}: {} at head {}, token {}, channel {}; prompt \"{}\" cannot "
                               "be used",
                               file.path(), tensor.name, std::isnan(values[i]) ? "NaN" : "infinity",
                               head, i / header.headDim, i % header.headDim, header.promptId)};
  return {};
}

Status DumpReader::read(uint32_t layer, uint32_t head, uint32_t step, std::vector<float> &q,
                        std::vector<float> &k) const {
  const size_t site = (size_t(layer) * impl->header.steps.size() + step) * 2;
  if (Status s = impl->convert(impl->tensors[site], head, q); !s)
    return s;
  return impl->convert(impl->tensors[site + 1], head, k);
}

} // namespace calibatt

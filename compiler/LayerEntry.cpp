// An entry: length of a JSON header, the header, and the bulk it tells the sizes of:
// the frames of the schedules and of the IR, launch orders, sources.
#include "compiler/LayerEntry.h"

#include "runtime/format/Json.h"
#include "runtime/format/Safetensors.h"
#include "runtime/format/Zstd.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>

namespace calibatt {

namespace {

Json frameJson(const CompressedItem &item) {
  return {{"frame", item.frameBytes}, {"padded", item.frame.size()}, {"raw", item.rawBytes}};
}

/// Takes what a header describes from the bytes behind it.
class Bulk {
public:
  explicit Bulk(std::span<const uint8_t> bytes) : rest(bytes) {}

  std::span<const uint8_t> take(uint64_t bytes) {
    if (bytes > rest.size()) {
      good = false;
      return {};
    }
    std::span<const uint8_t> taken = rest.first(bytes);
    rest = rest.subspan(bytes);
    return taken;
  }
  CompressedItem frame(JsonFields &fields) {
    std::span<const uint8_t> bytes = take(fields.integer("padded"));
    CompressedItem item{{bytes.begin(), bytes.end()}, 0, fields.integer("raw")};
    item.frameBytes = fields.integer("frame", 1, bytes.size());
    if (bytes.size() % kBlobAlignment || bytes.size() - item.frameBytes >= kBlobAlignment)
      fields.fail("a frame is not padded as it should be");
    const auto end = bytes.begin() + ptrdiff_t(item.frameBytes);
    if (Status whole = checkZstdFrame({bytes.begin(), end}, item.rawBytes, "a frame"); !whole)
      fields.fail(whole.message());
    if (std::any_of(end, bytes.end(), [](uint8_t byte) { return byte != 0; }))
      fields.fail("the padding of a frame is not zero");
    return item;
  }
  bool isUsedUp() const { return good && rest.empty(); }

private:
  std::span<const uint8_t> rest;
  bool good = true;
};

void append(std::vector<uint8_t> &out, std::span<const uint8_t> bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}
std::span<const uint8_t> bytesOf(const std::string &text) {
  return {reinterpret_cast<const uint8_t *>(text.data()), text.size()};
}
std::span<const uint8_t> bytesOf(const std::vector<uint16_t> &values) {
  return {reinterpret_cast<const uint8_t *>(values.data()), values.size() * sizeof(uint16_t)};
}

/// Kernels with the same code name the same source.
Json kernelsJson(const LoweredLayer &layer, Json &sources, std::vector<uint8_t> &bulk) {
  std::map<std::string, size_t> sourceOf;
  Json kernels = Json::array();
  for (const LayerKernel &kernel : layer.kernels) {
    auto [source, isNew] = sourceOf.try_emplace(kernel.symbol, sourceOf.size());
    if (isNew) {
      sources.push_back({{"symbol", kernel.symbol}, {"bytes", kernel.cuda.size()}});
      append(bulk, bytesOf(kernel.cuda));
    }
    append(bulk, bytesOf(kernel.order));
    const KernelRecord &record = kernel.record;
    kernels.push_back({{"source", source->second},
                       {"form", uint32_t(kernel.form)},
                       {"dynamic_smem", kernel.dynamicSmem},
                       {"persistent", kernel.persistent},
                       {"schedule", kernel.schedule},
                       {"data_bytes", kernel.dataBytes},
                       {"order", kernel.order.size()},
                       {"order_rule", uint32_t(record.orderRule)},
                       {"layer", record.layer},
                       {"step", record.step},
                       {"head_base", record.headBase},
                       {"heads", record.heads},
                       {"visits", record.visits},
                       {"micros", record.predictedMicros},
                       {"reason", record.reason},
                       {"code_bytes", kernel.predictedCodeBytes},
                       {"seconds", kernel.predictedSeconds}});
  }
  return kernels;
}

std::vector<LayerKernel> readKernels(JsonFields &layer, const Json &sources, Bulk &bulk) {
  std::vector<std::string> cuda(sources.size());
  std::vector<LayerKernel> kernels;
  for (const Json &entry : layer.array("kernels")) {
    JsonFields fields(entry, "kernel");
    LayerKernel kernel;
    const uint32_t source = fields.u32("source");
    if (source >= sources.size()) {
      layer.fail("a kernel has no source");
      break;
    }
    JsonFields text(sources[source], "source");
    kernel.symbol = text.string("symbol");
    if (cuda[source].empty()) {
      std::span<const uint8_t> bytes = bulk.take(text.integer("bytes", 1));
      cuda[source].assign(bytes.begin(), bytes.end());
    }
    kernel.cuda = cuda[source];
    std::span<const uint8_t> order = bulk.take(fields.integer("order", 0, 1 << 16) * 2);
    kernel.order.resize(order.size() / 2);
    if (!order.empty())
      std::memcpy(kernel.order.data(), order.data(), order.size());
    kernel.form = Form(fields.u32("form", 0, uint32_t(Form::Table)));
    kernel.dynamicSmem = fields.u32("dynamic_smem");
    kernel.persistent = fields.boolean("persistent");
    kernel.schedule = fields.u32("schedule");
    kernel.dataBytes = fields.integer("data_bytes");
    kernel.predictedCodeBytes = fields.integer("code_bytes");
    kernel.predictedSeconds = fields.number("seconds");
    KernelRecord &record = kernel.record;
    record.orderRule = TileOrder(fields.u32("order_rule", 0, uint32_t(TileOrder::Longest)));
    record.layer = fields.u32("layer");
    record.step = fields.u32("step");
    record.headBase = fields.u32("head_base");
    record.heads = fields.u32("heads");
    record.visits = fields.integer("visits");
    record.predictedMicros = float(fields.number("micros"));
    record.reason = fields.string("reason");
    if (!fields.status() || !text.status())
      layer.fail("a kernel is not whole");
    kernels.push_back(std::move(kernel));
  }
  return kernels;
}

Json schedulesJson(const LoweredLayer &layer, std::vector<uint8_t> &bulk) {
  Json schedules = Json::array();
  for (const StoredSchedule &schedule : layer.schedules) {
    Json entry = frameJson(schedule.content);
    entry.update({{"reference", schedule.reference},
                  {"form", uint32_t(schedule.form)},
                  {"tokens", schedule.tokens},
                  {"heads", schedule.heads},
                  {"visits", schedule.visits},
                  {"image_bytes", schedule.imageBytes}});
    schedules.push_back(std::move(entry));
    append(bulk, schedule.content.frame);
    append(bulk, schedule.imageHash);
  }
  return schedules;
}

std::vector<StoredSchedule> readSchedules(JsonFields &layer, Bulk &bulk) {
  std::vector<StoredSchedule> schedules;
  for (const Json &entry : layer.array("schedules")) {
    JsonFields fields(entry, "schedule");
    StoredSchedule schedule;
    schedule.content = bulk.frame(fields);
    schedule.reference = fields.u32("reference");
    schedule.form = Form(fields.u32("form", 0, uint32_t(Form::Table)));
    schedule.tokens = fields.u32("tokens");
    schedule.heads = fields.u32("heads");
    schedule.visits = fields.integer("visits");
    schedule.imageBytes = fields.integer("image_bytes");
    std::span<const uint8_t> hash = bulk.take(schedule.imageHash.size());
    if (!fields.status() || hash.empty() ||
        (schedule.reference != kWholeSchedule && schedule.reference >= schedules.size()))
      layer.fail("a schedule is not whole");
    else
      std::memcpy(schedule.imageHash.data(), hash.data(), hash.size());
    schedules.push_back(std::move(schedule));
  }
  return schedules;
}

std::vector<SiteRoute> readRoutes(JsonFields &layer, size_t kernels) {
  std::vector<SiteRoute> routes;
  const Json &numbers = layer.array("routes");
  for (size_t i = 0; i + 2 < numbers.size(); i += 3) {
    if (!numbers[i].is_number_unsigned() || !numbers[i + 1].is_number_unsigned() ||
        !numbers[i + 2].is_number_unsigned() || numbers[i + 2].get<size_t>() >= kernels) {
      layer.fail("a route is none");
      break;
    }
    routes.push_back({numbers[i], numbers[i + 1], numbers[i + 2]});
  }
  return routes;
}

} // namespace

Result<std::vector<uint8_t>> encodeLayer(const LoweredLayer &layer, const std::string &madeFrom) {
  std::vector<uint8_t> bulk;
  Json sources = Json::array(), routes = Json::array();
  Json json = {{"made_from", madeFrom}};
  json["kernels"] = kernelsJson(layer, sources, bulk);
  json["sources"] = std::move(sources);
  json["schedules"] = schedulesJson(layer, bulk);
  json["ir"] = frameJson(layer.storedIr);
  append(bulk, layer.storedIr.frame);
  for (const SiteRoute &route : layer.routes)
    for (size_t number : {size_t(route.head), size_t(route.step), route.kernel})
      routes.push_back(number);
  json["routes"] = std::move(routes);
  const Deduplication &dedup = layer.dedup;
  json["dedup"] = {{"sites", dedup.sites},
                   {"profile_masks", dedup.profileMasks},
                   {"masks", dedup.masks},
                   {"rows", dedup.rows},
                   {"row_classes", dedup.rowClasses}};
  json["remarks"] = layer.remarks;
  json["warnings"] = layer.warnings;
  auto header = writeJson(json, "layer");
  if (!header)
    return header.takeError();
  const uint64_t headerBytes = header->size();
  std::vector<uint8_t> entry(sizeof(headerBytes));
  std::memcpy(entry.data(), &headerBytes, sizeof(headerBytes));
  append(entry, bytesOf(*header));
  append(entry, bulk);
  return entry;
}

Result<LoweredLayer> decodeLayer(std::span<const uint8_t> entry, const std::string &madeFrom) {
  uint64_t headerBytes = 0;
  if (entry.size() < sizeof(headerBytes))
    return Error{"is too short"};
  std::memcpy(&headerBytes, entry.data(), sizeof(headerBytes));
  std::span<const uint8_t> rest = entry.subspan(sizeof(headerBytes));
  if (headerBytes > rest.size())
    return Error{"is too short for its header"};
  auto json = parseJson({reinterpret_cast<const char *>(rest.data()), headerBytes}, "header");
  if (!json)
    return json.takeError();
  JsonFields fields(*json, "header");
  if (fields.string("made_from") != madeFrom)
    return Error{"is of another layer, profile, program or options"};
  Bulk bulk(rest.subspan(headerBytes));
  LoweredLayer layer;
  layer.kernels = readKernels(fields, fields.array("sources"), bulk);
  layer.schedules = readSchedules(fields, bulk);
  JsonFields ir(fields.object("ir"), "ir");
  layer.storedIr = bulk.frame(ir);
  layer.routes = readRoutes(fields, layer.kernels.size());
  JsonFields dedup(fields.object("dedup"), "dedup");
  layer.dedup = {dedup.integer("sites"), dedup.integer("profile_masks"), dedup.integer("masks"),
                 dedup.integer("rows"), dedup.integer("row_classes")};
  layer.remarks = fields.strings("remarks");
  layer.warnings = fields.strings("warnings");
  for (const LayerKernel &kernel : layer.kernels)
    if (kernel.schedule != kNone && kernel.schedule >= layer.schedules.size())
      fields.fail("a kernel has no schedule");
  if (!bulk.isUsedUp())
    fields.fail("the sizes in it are not those of what follows");
  for (const Status &status : {fields.status(), ir.status(), dedup.status()})
    if (!status)
      return Error{status.message()};
  return layer;
}

} // namespace calibatt

#include "test/runtime/RuntimeSamples.h"

#include "runtime/format/CalibrationParams.h"
#include "test/format/EmittedText.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <numeric>
#include <stdexcept>

namespace calibatt::test {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

uint32_t addKernel(Random &random, PackageWriter &writer, const SampleShape &shape,
                   const Schedule &schedule, KernelRecord record) {
  CodeImage code;
  code.form = shape.form;
  code.arch = shape.arch;
  code.symbol = "calibatt_sample_runs";
  code.fatbin = {'d', 'u', 'm', 'm', 'y'};
  code.cuda = fmt::format("constexpr calibatt::AttentionSpec kSpec{{.tokens = {}{}}};\n",
                          shape.tokens, emittedGrid(shape.grid));
  code.dynamicSmem = 101376;
  code.persistent = shape.persistent;
  if (shape.form == Form::Runs || shape.form == Form::Table) {
    record.data = writer.addData(buildScheduleImage(schedule, shape.form));
  } else {
    code.cuda = emittedText(schedule, shape.form);
    code.symbol = fmt::format("calibatt_sample_{:x}", std::hash<std::string>()(code.cuda));
  }
  record.code = writer.addCode(code);
  std::vector<uint16_t> order(schedule.heads * schedule.queryBlocks);
  std::iota(order.begin(), order.end(), uint16_t(0));
  std::shuffle(order.begin(), order.end(), random.engine);
  record.order = writer.addOrder(order);
  record.heads = schedule.heads;
  record.visits = visitsOf(schedule);
  record.reason = "a test asked for it";
  return writer.addKernel(record);
}

/// By the definition: anchor i of k is row floor((2i + 1) H / 2k) of a frame; of two anchors that
/// are equally near, the lower.
uint32_t nearestAnchor(const AnchorGrid &grid, uint32_t token) {
  const int row = int(token / grid.width % grid.height);
  int nearest = -1;
  for (int i = 0; i < int(grid.anchors); ++i) {
    const int anchor = (2 * i + 1) * int(grid.height) / (2 * int(grid.anchors));
    if (nearest < 0 || std::abs(anchor - row) < std::abs(nearest - row))
      nearest = anchor;
  }
  return uint32_t(int(token) + (nearest - row) * int(grid.width));
}

} // namespace

Schedule sliceHeads(const Schedule &schedule, uint32_t begin, uint32_t count) {
  Schedule slice = schedule;
  slice.heads = count;
  slice.rowClass.clear();
  slice.classes.clear();
  for (uint32_t h = begin; h < begin + count; ++h)
    for (uint32_t q = 0; q < schedule.queryBlocks; ++q) {
      const auto &row = schedule.row(h, q);
      const auto found = std::find(slice.classes.begin(), slice.classes.end(), row);
      slice.rowClass.push_back(uint32_t(found - slice.classes.begin()));
      if (found == slice.classes.end())
        slice.classes.push_back(row);
    }
  return slice;
}

SamplePackage::SamplePackage(Random &random, const SampleShape &shape) : shape(shape) {
  Manifest manifest;
  Problem &problem = manifest.problem;
  problem.model = "sample";
  problem.tokens = shape.tokens;
  problem.height = shape.grid.anchors ? shape.grid.height : shape.height;
  problem.width =
      shape.grid.anchors ? shape.grid.width : shape.tokens / (shape.frames * shape.height);
  problem.frames = shape.tokens / problem.height / problem.width;
  problem.layers = shape.layers;
  problem.heads = shape.heads;
  problem.steps = shape.steps;
  problem.headDim = shape.headDim;
  problem.scale = scale = 1 / std::sqrt(double(shape.headDim));
  manifest.granularity = shape.perHead ? "head" : "step";
  manifest.archs = {shape.arch};
  manifest.minDriver = shape.minDriver;
  for (uint32_t step = 0; shape.tellsSteps && step < shape.steps; ++step)
    manifest.steps.push_back(
        {1000.0 - step, 1 - step / 16.0, step ? "transformer_2" : "transformer"});
  PackageWriter writer(manifest);
  for (uint32_t layer = 0; layer < shape.layers; ++layer)
    for (uint32_t step = 0; step < shape.steps; ++step) {
      schedules.push_back(sliceHeads(
          randomSchedule(random, shape.tokens, shape.heads, shape.density), 0, shape.heads));
      if (shape.grid.anchors)
        schedules.back() = withAnchors(std::move(schedules.back()), shape.grid);
      const uint32_t each = shape.perHead ? 1 : shape.heads;
      for (uint32_t head = 0; head < shape.heads; head += each) {
        KernelRecord record;
        record.layer = layer;
        record.step = step;
        record.headBase = head;
        const uint32_t kernel = addKernel(
            random, writer, shape,
            shape.perHead ? sliceHeads(schedules.back(), head, each) : schedules.back(), record);
        for (uint32_t h = head; h < head + each; ++h)
          writer.setRoute(layer, h, step, kernel);
      }
    }
  for (unsigned i = 0; shape.calibration && i < kCalibrationKernels; ++i) {
    CodeImage code;
    code.form = Form::Full;
    code.arch = shape.arch;
    code.symbol = fmt::format(CALIBATT_CALIBRATION_SYMBOL "{}_0123456789abcdef",
                              calibrationName(CalibrationKernel(i)));
    code.fatbin = {'d', 'u', 'm', 'm', 'y'};
    code.dynamicSmem = 1000 * (i + 1);
    writer.addCode(code);
  }
  const Schedule dense = randomSchedule(random, shape.tokens, shape.denseHeads, 2);
  writer.setDenseKernel(
      addKernel(random, writer, shape, sliceHeads(dense, 0, shape.denseHeads), {}));
  path = folder.file("sample.calibatt");
  if (Status written = writer.write(path); !written)
    throw std::runtime_error(written.message());
}

TestTensor::TestTensor(calibatt_dtype_t dtype, Layout layout, uint32_t batch, uint32_t heads,
                       uint32_t tokens, uint32_t dim)
    : batch(batch), heads(heads), tokens(tokens), dim(dim), dtype(dtype) {
  switch (layout) {
  case Layout::Contiguous:
    stride = {int64_t(heads) * tokens * dim, int64_t(tokens) * dim, dim};
    break;
  case Layout::TokenMajor: // [batch, tokens, heads, dim], as projections give it
    stride = {int64_t(heads) * tokens * dim, dim, int64_t(heads) * dim};
    break;
  case Layout::Padded:
    stride[2] = dim + 8;
    stride[1] = stride[2] * tokens + 24;
    stride[0] = stride[1] * heads + 40;
    break;
  }
  elements = size_t(stride[0]) * batch + 64;
  storage.resize(elements * (dtype == CALIBATT_DTYPE_BF16 ? 2 : 4), 0xFF); // NaN in both types
}

size_t TestTensor::offset(uint32_t b, uint32_t h, uint32_t t, uint32_t d) const {
  return size_t(b * stride[0] + h * stride[1] + t * stride[2] + d);
}

double TestTensor::read(size_t element) const {
  float value;
  if (dtype == CALIBATT_DTYPE_F32) {
    std::memcpy(&value, storage.data() + element * 4, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, storage.data() + element * 2, 2);
  return std::bit_cast<float>(uint32_t(bits) << 16);
}

double TestTensor::get(uint32_t b, uint32_t h, uint32_t t, uint32_t d) const {
  return read(offset(b, h, t, d));
}

void TestTensor::set(uint32_t b, uint32_t h, uint32_t t, uint32_t d, double value) {
  const float narrow = float(value);
  if (dtype == CALIBATT_DTYPE_F32) {
    std::memcpy(storage.data() + offset(b, h, t, d) * 4, &narrow, 4);
    return;
  }
  const uint16_t bits = uint16_t(std::bit_cast<uint32_t>(narrow) >> 16); // any bf16 will do
  std::memcpy(storage.data() + offset(b, h, t, d) * 2, &bits, 2);
}

void TestTensor::fillNormal(Random &random, double deviation) {
  std::normal_distribution<double> normal(0, deviation);
  for (uint32_t b = 0; b < batch; ++b)
    for (uint32_t h = 0; h < heads; ++h)
      for (uint32_t t = 0; t < tokens; ++t)
        for (uint32_t d = 0; d < dim; ++d)
          set(b, h, t, d, normal(random.engine));
}

uint64_t TestTensor::disturbedGaps() const {
  std::vector<bool> used(elements);
  for (uint32_t b = 0; b < batch; ++b)
    for (uint32_t h = 0; h < heads; ++h)
      for (uint32_t t = 0; t < tokens; ++t)
        for (uint32_t d = 0; d < dim; ++d)
          used[offset(b, h, t, d)] = true;
  uint64_t disturbed = 0;
  for (size_t i = 0; i < elements; ++i)
    disturbed += !used[i] && !std::isnan(read(i));
  return disturbed;
}

TestCall::TestCall(Random &random, calibatt_dtype_t dtype, Layout layout, uint32_t batch,
                   uint32_t heads, const SampleShape &shape, double deviation)
    : q(dtype, layout, batch, heads, shape.tokens, shape.headDim), k(q), v(q), o(q),
      lse(size_t(batch) * heads * shape.tokens, float(kNaN)), call(CALIBATT_INIT(calibatt_call_t)) {
  for (TestTensor *tensor : {&q, &k, &v})
    tensor->fillNormal(random, deviation);
  call.batch = batch;
  call.heads = heads;
  call.tokens = shape.tokens;
  call.head_dim = shape.headDim;
  call.dtype = dtype;
  call.q = q.data();
  call.k = k.data();
  call.v = v.data();
  call.o = o.data();
  for (int d = 0; d < 3; ++d)
    call.q_strides[d] = call.k_strides[d] = call.v_strides[d] = call.o_strides[d] =
        q.strides()[size_t(d)];
  call.lse = lse.data();
}

Deviation compareWithReference(const TestCall &call, const Schedule &schedule, uint32_t headBegin,
                               double scale) {
  Deviation deviation;
  double squaredError = 0, squaredNorm = 0;
  const TestTensor &q = call.q, &k = call.k, &v = call.v, &o = call.o;
  std::vector<double> logits, output(q.dim);
  std::vector<uint32_t> keys;
  for (uint32_t b = 0; b < q.batch; ++b)
    for (uint32_t h = 0; h < q.heads; ++h)
      for (uint32_t t = 0; t < q.tokens; ++t) {
        // Of a repetitive head: the query in the same column of the nearest anchor row.
        const uint32_t query =
            schedule.isRepetitive(h + headBegin) ? nearestAnchor(schedule.grid, t) : t;
        keys.clear();
        for (uint16_t block : schedule.row(h + headBegin, t / kBlock))
          for (uint32_t key = block * kBlock; key < std::min((block + 1) * kBlock, q.tokens); ++key)
            keys.push_back(key);
        logits.clear();
        for (uint32_t key : keys) {
          double dot = 0;
          for (uint32_t d = 0; d < q.dim; ++d)
            dot += q.get(b, h, query, d) * k.get(b, h, key, d);
          logits.push_back(dot * scale);
        }
        const double maximum = *std::max_element(logits.begin(), logits.end());
        double sum = 0;
        std::fill(output.begin(), output.end(), 0.0);
        for (size_t i = 0; i < keys.size(); ++i) {
          const double p = std::exp(logits[i] - maximum);
          sum += p;
          for (uint32_t d = 0; d < q.dim; ++d)
            output[d] += p * v.get(b, h, keys[i], d);
        }
        for (uint32_t d = 0; d < q.dim; ++d) {
          const double wanted = output[d] / sum, error = o.get(b, h, t, d) - wanted;
          squaredError += error * error;
          squaredNorm += wanted * wanted;
        }
        const double lse = call.lse[(size_t(b) * q.heads + h) * q.tokens + t];
        const double lseError = std::abs(lse - (maximum + std::log(sum)));
        // NaN must not slip through a maximum.
        deviation.lse = lseError <= deviation.lse ? deviation.lse : lseError;
      }
  deviation.relativeRms = std::sqrt(squaredError / squaredNorm);
  return deviation;
}

} // namespace calibatt::test

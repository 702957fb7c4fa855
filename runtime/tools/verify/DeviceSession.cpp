// Calls through the C ABI, as an inference host makes them.
#include "runtime/tools/verify/DeviceSession.h"

#include "runtime/format/Quantity.h"
#include "runtime/tools/verify/CudaTools.h"
#include "runtime/tools/verify/GpuState.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <fmt/format.h>
#include <limits>
#include <thread>

namespace calibatt {

/// Where the tensors of one call are: host or device addresses.
struct CallTensors {
  const void *q = nullptr, *k = nullptr, *v = nullptr;
  void *o = nullptr;
  float *lse = nullptr;
};

struct DeviceSession::Impl {
  std::unique_ptr<CudaTools> cuda; ///< null on the host; outlives the session
  std::unique_ptr<GpuState> gpu;   ///< null where clocks are not known
  calibatt_package_t *package = nullptr;
  calibatt_session_t *session = nullptr;
  std::string description;

  ~Impl() {
    calibatt_session_destroy(session);
    calibatt_package_close(package);
  }
  calibatt_dtype_t dtype() const { return cuda ? CALIBATT_DTYPE_BF16 : CALIBATT_DTYPE_F32; }
  Status call(const TensorShape &shape, const CallTensors &tensors, uint32_t layer, uint32_t step);
  Result<CallTensors> upload(const TestTensors &tensors);
};

static Error abiError(calibatt_status_t status, const char *function) {
  return {fmt::format("{}: {} ({})", function, calibatt_last_error_message(),
                      calibatt_status_name(status))};
}

DeviceSession::DeviceSession(std::unique_ptr<Impl> impl) : impl(std::move(impl)) {}
DeviceSession::DeviceSession(DeviceSession &&) noexcept = default;
DeviceSession &DeviceSession::operator=(DeviceSession &&) noexcept = default;
DeviceSession::~DeviceSession() = default;
bool DeviceSession::onHost() const { return !impl->cuda; }
const std::string &DeviceSession::description() const { return impl->description; }

Result<int> deviceOrdinal(const std::string &name) {
  if (name == "host")
    return -1;
  if (name == "cuda")
    return 0;
  int ordinal = 0;
  const char *end = name.data() + name.size();
  if (name.starts_with("cuda:")) {
    auto [parsed, error] = std::from_chars(name.data() + 5, end, ordinal);
    if (error == std::errc() && parsed == end && ordinal >= 0)
      return ordinal;
  }
  return Error{fmt::format("device \"{}\": wanted host, cuda or cuda:N", name)};
}

std::string deviceNameProblem(const std::string &name) {
  auto ordinal = deviceOrdinal(name);
  return ordinal ? std::string() : fmt::format("got \"{}\", wanted host, cuda or cuda:N", name);
}

Result<DeviceSession> DeviceSession::open(const std::string &path, const std::string &device) {
  auto impl = std::make_unique<Impl>();
  auto ordinal = deviceOrdinal(device);
  if (!ordinal)
    return ordinal.takeError();
  if (*ordinal < 0) {
    impl->description =
        fmt::format("the host device ({}, float32 tensors)",
                    counted(std::max(1u, std::thread::hardware_concurrency()), "thread"));
  } else {
    auto tools = CudaTools::open(*ordinal);
    if (!tools)
      return tools.takeError();
    impl->cuda = tools.take();
    impl->gpu = GpuState::open(impl->cuda->pciAddress());
    impl->description = fmt::format("{} ({}, bf16 tensors)", device, impl->cuda->name());
  }
  if (calibatt_status_t s = calibatt_package_open(path.c_str(), &impl->package))
    return abiError(s, "calibatt_package_open");
  auto options = CALIBATT_INIT(calibatt_session_options_t);
  options.device = device.c_str();
  options.allow_dense = 1;
  if (calibatt_status_t s = calibatt_session_create(impl->package, &options, &impl->session))
    return abiError(s, "calibatt_session_create");
  return DeviceSession(std::move(impl));
}

Status DeviceSession::Impl::call(const TensorShape &shape, const CallTensors &tensors,
                                 uint32_t layer, uint32_t step) {
  auto call = CALIBATT_INIT(calibatt_call_t);
  call.layer = layer;
  call.step = step;
  call.batch = shape.batch;
  call.heads = shape.heads;
  call.tokens = shape.tokens;
  call.head_dim = shape.headDim;
  call.dtype = dtype();
  call.q = tensors.q;
  call.k = tensors.k;
  call.v = tensors.v;
  call.o = tensors.o;
  call.lse = tensors.lse;
  for (int64_t *strides : {call.q_strides, call.k_strides, call.v_strides, call.o_strides}) {
    strides[0] = shape.batchStride();
    strides[1] = shape.headStride();
    strides[2] = shape.tokenStride();
  }
  call.lse_strides[0] = int64_t(shape.heads) * shape.tokens;
  call.lse_strides[1] = shape.tokens;
  if (calibatt_status_t s = calibatt_attention(session, &call))
    return abiError(s, "calibatt_attention");
  return {};
}

Result<CallTensors> DeviceSession::Impl::upload(const TestTensors &tensors) {
  CallTensors device;
  for (auto [to, from] : {std::pair{&device.q, &tensors.q}, std::pair{&device.k, &tensors.k},
                          std::pair{&device.v, &tensors.v}}) {
    auto address = cuda->upload(from->data(), from->size() * sizeof(uint16_t));
    if (!address)
      return address.takeError();
    *to = reinterpret_cast<const void *>(*address);
  }
  // 0x7FC0 is a quiet NaN in bf16.
  std::vector<uint16_t> poisonedO(tensors.shape.elements(), 0x7FC0);
  std::vector<float> poisonedLse(tensors.shape.lseElements(),
                                 std::numeric_limits<float>::quiet_NaN());
  auto o = cuda->upload(poisonedO.data(), poisonedO.size() * sizeof(uint16_t));
  if (!o)
    return o.takeError();
  auto lse = cuda->upload(poisonedLse.data(), poisonedLse.size() * sizeof(float));
  if (!lse)
    return lse.takeError();
  device.o = reinterpret_cast<void *>(*o);
  device.lse = reinterpret_cast<float *>(*lse);
  return device;
}

Result<TestOutputs> DeviceSession::attention(const TestTensors &tensors, uint32_t layer,
                                             uint32_t step, bool lse) {
  TestOutputs outputs = poisonedOutputs(tensors.shape);
  if (!impl->cuda) {
    std::vector<float> q = fromBf16(tensors.q), k = fromBf16(tensors.k), v = fromBf16(tensors.v);
    CallTensors host{q.data(), k.data(), v.data(), outputs.o.data(),
                     lse ? outputs.lse.data() : nullptr};
    if (Status s = impl->call(tensors.shape, host, layer, step); !s)
      return s.takeError();
    return outputs;
  }
  auto run = [&]() -> Status {
    auto device = impl->upload(tensors);
    if (!device)
      return device.takeError();
    CallTensors asked = *device;
    if (!lse)
      asked.lse = nullptr;
    if (Status s = impl->call(tensors.shape, asked, layer, step); !s)
      return s;
    std::vector<uint16_t> bits(outputs.o.size());
    if (Status s = impl->cuda->download(bits.data(), CuDevicePtr(device->o),
                                        bits.size() * sizeof(uint16_t));
        !s)
      return s;
    outputs.o = fromBf16(bits);
    return impl->cuda->download(outputs.lse.data(), CuDevicePtr(device->lse),
                                outputs.lse.size() * sizeof(float));
  };
  Status status = run();
  impl->cuda->release();
  if (!status)
    return status.takeError();
  return outputs;
}

uint64_t DeviceSession::reruns() const {
  auto stats = CALIBATT_INIT(calibatt_session_stats_t);
  return calibatt_session_stats(impl->session, &stats) == CALIBATT_STATUS_OK ? stats.reruns : 0;
}

double DeviceSession::flopsPerClock() const { return impl->cuda ? impl->cuda->flopsPerClock() : 0; }

Result<CallTimes> DeviceSession::time(const TestTensors &tensors, uint32_t layer, uint32_t step,
                                      uint32_t warmup, uint32_t runs) {
  CallTimes times;
  if (!impl->cuda) {
    TestOutputs outputs = poisonedOutputs(tensors.shape);
    std::vector<float> q = fromBf16(tensors.q), k = fromBf16(tensors.k), v = fromBf16(tensors.v);
    CallTensors host{q.data(), k.data(), v.data(), outputs.o.data(), nullptr};
    for (uint32_t i = 0; i < warmup + runs; ++i) {
      auto start = std::chrono::steady_clock::now();
      if (Status s = impl->call(tensors.shape, host, layer, step); !s)
        return s.takeError();
      std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
      if (i >= warmup)
        times.seconds.push_back(took.count());
    }
    return times;
  }
  std::vector<double> megahertz, watts;
  auto run = [&]() -> Status {
    auto device = impl->upload(tensors);
    if (!device)
      return device.takeError();
    device->lse = nullptr;
    uint64_t before = 0;
    for (uint32_t i = 0; i < warmup + runs; ++i) {
      if (i == warmup)
        before = reruns(); // every earlier call has ended
      if (Status s = impl->cuda->startTimer(); !s)
        return s;
      if (Status s = impl->call(tensors.shape, *device, layer, step); !s)
        return s;
      // While the launches run, where they last that long.
      std::optional<GpuSample> sample;
      if (impl->gpu)
        sample = impl->gpu->sample();
      auto took = impl->cuda->stopTimer();
      if (!took)
        return took.takeError();
      if (i < warmup)
        continue;
      times.seconds.push_back(*took);
      if (sample) {
        megahertz.push_back(sample->smMegahertz);
        watts.push_back(sample->watts);
        times.throttled |= sample->throttled;
      }
    }
    times.reruns = double(reruns() - before) / runs;
    return {};
  };
  Status status = run();
  impl->cuda->release();
  if (!status)
    return status.takeError();
  auto middle = [](std::vector<double> &values) {
    if (values.empty())
      return 0.0;
    std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
    return values[values.size() / 2];
  };
  times.megahertz = middle(megahertz);
  times.watts = middle(watts);
  return times;
}

} // namespace calibatt

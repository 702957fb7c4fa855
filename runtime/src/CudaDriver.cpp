#include "runtime/src/CudaDriver.h"

#include <fmt/format.h>

#include <cstdlib>
#include <dlfcn.h>
#include <string>

namespace calibatt {
namespace {

Outcome open(CudaDriver &driver) {
  const char *chosen = std::getenv("CALIBATT_LIBCUDA");
  const char *path = chosen && *chosen ? chosen : "libcuda.so.1";
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char *said = dlerror();
    std::string why = said ? said : "unknown reason";
    if (const std::string again = std::string(path) + ": "; why.starts_with(again))
      why.erase(0, again.size());
    return {CALIBATT_STATUS_NO_DEVICE, fmt::format("{} not found: {}", path, why)};
  }
// Names and parameter lists cannot be in parentheses.
// NOLINTBEGIN(bugprone-macro-parentheses)
#define CALIBATT_CUDA_RESOLVE(member, symbol, parameters)                                          \
  driver.member = reinterpret_cast<CuResult(*) parameters>(dlsym(library, #symbol));               \
  if (!driver.member)                                                                              \
    return {CALIBATT_STATUS_NO_DEVICE,                                                             \
            fmt::format("{} has no {}: the CUDA driver is too old", path, #symbol)};
  CALIBATT_CUDA_FUNCTIONS(CALIBATT_CUDA_RESOLVE)
#undef CALIBATT_CUDA_RESOLVE
  // NOLINTEND(bugprone-macro-parentheses)
  if (Outcome ready = driver.check(driver.init(0), "cuInit"); !ready.ok())
    return {CALIBATT_STATUS_NO_DEVICE, ready.message};
  return {};
}

} // namespace

Outcome CudaDriver::get(const CudaDriver *&driver) {
  struct Opened {
    CudaDriver driver;
    Outcome outcome = open(driver);
  };
  static const Opened opened;
  driver = &opened.driver;
  return opened.outcome;
}

Outcome CudaDriver::check(CuResult result, const char *function) const {
  if (result == 0)
    return {};
  const char *name = nullptr, *text = nullptr;
  getErrorName(result, &name);
  getErrorString(result, &text);
  return {result == kCudaOutOfMemory ? CALIBATT_STATUS_OUT_OF_MEMORY : CALIBATT_STATUS_DRIVER_ERROR,
          fmt::format("{}: {} ({}): {}", function, name ? name : "unknown error", result,
                      text ? text : "no description")};
}

ContextScope::ContextScope(const CudaDriver &driver, CuContext context) : driver(driver) {
  CuContext current = nullptr;
  if (driver.contextGetCurrent(&current) == 0 && current == context)
    return;
  entered = driver.check(driver.contextPush(context), "cuCtxPushCurrent");
  pushed = entered.ok();
}

ContextScope::~ContextScope() {
  CuContext popped = nullptr;
  if (pushed)
    driver.contextPop(&popped);
}

} // namespace calibatt

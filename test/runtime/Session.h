// Handles of the C ABI that close themselves.
#pragma once

#include "runtime/include/calibatt/calibatt.h"

#include <memory>
#include <string>

namespace calibatt::test {

struct PackageHandle {
  calibatt_package_t *package = nullptr;
  explicit PackageHandle(const std::string &path) { calibatt_package_open(path.c_str(), &package); }
  ~PackageHandle() { calibatt_package_close(package); }
  PackageHandle(const PackageHandle &) = delete;
};

struct SessionHandle {
  calibatt_session_t *session = nullptr;
  calibatt_status_t status;
  SessionHandle(calibatt_package_t *package, const calibatt_session_options_t &options)
      : status(calibatt_session_create(package, &options, &session)) {}
  ~SessionHandle() { calibatt_session_destroy(session); }
  SessionHandle(const SessionHandle &) = delete;

  calibatt_session_stats_t stats() const {
    auto stats = CALIBATT_INIT(calibatt_session_stats_t);
    calibatt_session_stats(session, &stats);
    return stats;
  }
};

inline calibatt_session_options_t hostOptions() {
  return CALIBATT_INIT(calibatt_session_options_t);
}

inline std::string lastError() { return calibatt_last_error_message(); }

} // namespace calibatt::test

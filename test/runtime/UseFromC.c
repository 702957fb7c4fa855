/* The public header as C11 without extensions (and, in test/install, as C++17): every struct,
 * through its initialiser, and the calls that a host program makes. */
#include <calibatt/calibatt.h>

#ifdef __cplusplus
extern "C"
#endif
    calibatt_status_t calibattUseFromC(const char *path, uint32_t *tokens, uint64_t *calls);

calibatt_status_t calibattUseFromC(const char *path, uint32_t *tokens, uint64_t *calls) {
  calibatt_package_t *package = NULL;
  calibatt_session_t *session = NULL;
  calibatt_package_info_t info = CALIBATT_INIT(calibatt_package_info_t);
  calibatt_session_options_t options = CALIBATT_INIT(calibatt_session_options_t);
  calibatt_session_stats_t stats = CALIBATT_INIT(calibatt_session_stats_t);
  calibatt_call_t call = CALIBATT_INIT(calibatt_call_t);
  calibatt_status_t status = calibatt_package_open(path, &package);
  if (status != CALIBATT_STATUS_OK)
    return status;
  status = calibatt_package_info(package, &info);
  *tokens = info.tokens;
  if (status == CALIBATT_STATUS_OK)
    status = calibatt_session_create(package, &options, &session);
  call.batch = 1;
  call.tokens = info.tokens;
  call.dtype = CALIBATT_DTYPE_F32;
  if (status == CALIBATT_STATUS_OK)
    status = calibatt_match(package, session, &call, NULL, 0);
  if (status == CALIBATT_STATUS_OK)
    status = calibatt_session_stats(session, &stats);
  *calls = stats.calls;
  calibatt_session_destroy(session);
  calibatt_package_close(package);
  return status;
}

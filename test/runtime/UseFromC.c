/* Compiled as C11 with -pedantic-errors: calibatt.h has to be a C header. */
#include <calibatt/calibatt.h>

calibatt_status_t calibattUseFromC(const char *path, uint32_t *tokens);

calibatt_status_t calibattUseFromC(const char *path, uint32_t *tokens) {
  calibatt_package_t *package = NULL;
  calibatt_session_t *session = NULL;
  calibatt_package_info_t info = CALIBATT_INIT(calibatt_package_info_t);
  calibatt_session_options_t options = CALIBATT_INIT(calibatt_session_options_t);
  calibatt_status_t status = calibatt_package_open(path, &package);
  if (status != CALIBATT_STATUS_OK)
    return status;
  status = calibatt_package_info(package, &info);
  *tokens = info.tokens;
  if (status == CALIBATT_STATUS_OK)
    status = calibatt_session_create(package, &options, &session);
  calibatt_session_destroy(session);
  calibatt_package_close(package);
  return status;
}

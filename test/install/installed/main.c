/* A call of each library, and what each has to say of it. */
#include <calibatt/calibatt.h>
#include <calibatt/profile.h>

#include <stdio.h>
#include <string.h>

int main(void) {
  calibatt_package_t *package = NULL;
  calibatt_counts_t *counts = NULL;
  calibatt_counts_problem_t problem = CALIBATT_PROFILE_INIT(calibatt_counts_problem_t);
  if (calibatt_package_open("/nonexistent/a.calibatt", &package) == CALIBATT_STATUS_OK ||
      !strstr(calibatt_last_error_message(), "/nonexistent/a.calibatt"))
    return 1;
  /* A problem of no size. */
  if (calibatt_counts_open("/nonexistent/a.counts", &problem, &counts) ==
          CALIBATT_PROFILE_STATUS_OK ||
      !*calibatt_profile_last_error_message())
    return 2;
  printf("%s %s\n", calibatt_version(), calibatt_profile_version());
  return 0;
}

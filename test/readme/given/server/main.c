#include "wan_inside.calibatt.h"

int main(void) {
  calibatt_package_t *package = NULL;
  return calibatt_open_embedded_wan_inside(&package) != CALIBATT_STATUS_OK;
}

// A defect for each sanitizer, so that a run can show that they are there: the process that loads this ends
// with a report.
#include <climits>
#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace {

__attribute__((constructor)) void misbehave() {
  const char* defect = getenv("DEFECT");
  if (defect != nullptr && strcmp(defect, "address") == 0) {
    volatile size_t size = 8;
    auto* bytes = new char[size];
    bytes[size] = 1;
    delete[] bytes;
  } else {
    volatile int number = INT_MAX;
    number = number + 1;
  }
}

}  // namespace

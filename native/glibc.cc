// libstdc++ brings its random_device along with its strings. Nothing here uses it, but its arc4random would
// make glibc 2.36 the oldest that the prebuilt addon loads with, instead of 2.34.
#include <cstdint>
#include <cstdlib>

#ifdef __GLIBC__

extern "C" [[gnu::visibility("hidden")]] uint32_t arc4random() {
  abort();
}

#endif

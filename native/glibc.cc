// The prebuilt addons load with glibc 2.28, Node 20's own floor, though a newer one builds them. What they
// would need of a newer glibc is defined here, for our code and for libstdc++'s.
// test/unit/native-addon.test.ts holds the floor.
#include <stdint.h>
#include <stdlib.h>

#ifdef __GLIBC__

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#if defined(__x86_64__)
#define FIRST "GLIBC_2.2.5"
#define SETNAME "GLIBC_2.12"
#elif defined(__aarch64__)
#define FIRST "GLIBC_2.17"
#define SETNAME FIRST
#endif

extern "C" {

// glibc 2.36. libstdc++'s random_device calls it, and nothing here calls that.
uint32_t arc4random() {
  abort();
}

// glibc 2.32. False is always right: libstdc++ counts its references with atomic operations.
char __libc_single_threaded = 0;

#ifdef FIRST

// glibc 2.32 and 2.34 moved these from libpthread and libdl to libc, under a new version. The old one is
// there as well.
#define OLD(name, version)          \
  extern decltype(name) old_##name; \
  __asm__(".symver old_" #name ", " #name "@" version)

OLD(dlsym, FIRST);
OLD(pthread_attr_setstacksize, FIRST);
OLD(pthread_create, FIRST);
OLD(pthread_setname_np, SETNAME);
OLD(pthread_sigmask, FIRST);

int pthread_attr_setstacksize(pthread_attr_t* attributes, size_t size) noexcept {
  return old_pthread_attr_setstacksize(attributes, size);
}

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*),
                   void* argument) noexcept {
  return old_pthread_create(thread, attributes, start, argument);
}

int pthread_setname_np(pthread_t thread, const char* name) noexcept {
  return old_pthread_setname_np(thread, name);
}

int pthread_sigmask(int how, const sigset_t* set, sigset_t* before) noexcept {
  return old_pthread_sigmask(how, set, before);
}

// glibc 2.30. Below that a condition variable knows the wall clock alone. A wait may end early where that is
// set forward, as waits may at any time, and late where it is set back.
int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t clock,
                           const timespec* until) {
  static const auto wait =
      reinterpret_cast<decltype(&pthread_cond_clockwait)>(old_dlsym(RTLD_DEFAULT, __func__));
  if (wait != nullptr) return wait(condition, mutex, clock, until);
  constexpr long kSecond = 1'000'000'000;
  timespec now, wall;
  clock_gettime(clock, &now);
  clock_gettime(CLOCK_REALTIME, &wall);
  wall.tv_sec += until->tv_sec - now.tv_sec;
  wall.tv_nsec += until->tv_nsec - now.tv_nsec;
  if (wall.tv_nsec < 0) {
    wall.tv_sec--;
    wall.tv_nsec += kSecond;
  } else if (wall.tv_nsec >= kSecond) {
    wall.tv_sec++;
    wall.tv_nsec -= kSecond;
  }
  return pthread_cond_timedwait(condition, mutex, &wall);
}

#endif

}  // extern "C"

#endif

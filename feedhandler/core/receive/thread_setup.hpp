// What the receive thread does to itself before the first packet: name, processor, priority.
#pragma once

#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>

#include <cerrno>
#include <string>
#include <system_error>

namespace fh::receive {

struct ThreadSettings {
    int cpu = -1;      // -1 = any
    int priority = 0;  // 1 to 99: SCHED_FIFO; 0: shared like everybody else's
};

inline void pin_thread(int cpu) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(static_cast<unsigned>(cpu), &cpus);
    if (const int error = pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus))
        throw std::system_error(error, std::generic_category(),
                                "receive.cpu: cannot pin to " + std::to_string(cpu));
}

// Reset on fork: what this thread might ever start must not run before everybody else on one processor.
inline void raise_priority(int priority) {
    sched_param parameter{};
    parameter.sched_priority = priority;
    if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &parameter) != 0)
        throw std::system_error(errno, std::generic_category(),
                                "receive.priority: " + std::to_string(priority) +
                                    " is not granted (CAP_SYS_NICE or RLIMIT_RTPRIO is needed)");
}

// By the thread itself, so that no other inherits anything of it. `prefault` runs where the thread will, so
// that its memory lies on that processor's node, and before its priority could keep others away.
template <class Prefault>
void set_up_thread(const char* name, const ThreadSettings& settings, Prefault&& prefault) {
    prctl(PR_SET_NAME, name);
    prctl(PR_SET_TIMERSLACK, 1);  // ns; the default lets a sleep last 50 microseconds longer
    if (settings.cpu >= 0) pin_thread(settings.cpu);
    prefault();
    if (settings.priority > 0) raise_priority(settings.priority);
}

}  // namespace fh::receive

#include "bind/register.hpp"

NB_MODULE(_core, m) {
    m.doc() = "The compiled core of feedhandler; private, use the public names of the package.";
    fh::bind::register_frame(m);
    fh::bind::register_sequence(m);
    fh::bind::register_book(m);
    fh::bind::register_snapshot(m);
    fh::bind::register_pipeline(m);  // takes a type of the one before
    fh::bind::register_latency(m);
    fh::bind::register_publish(m);
    fh::bind::register_receive(m);
    fh::bind::register_time(m);
    fh::bind::register_replay(m);
    fh::bind::register_journal(m);
    fh::bind::register_simulate(m);
}

/* enclave.h — `ev-cage enclave`, PID 1 of the enclave. See DESIGN §6 for the boot order. */
#ifndef EV_ROLE_ENCLAVE_H
#define EV_ROLE_ENCLAVE_H

/* Never returns to a shell: as PID 1 it reboots (real kernel) or exits (simulator). */
int ev_enclave_main(int argc, char **argv);
/* True for /init of an enclave: getpid() == 1 and argv[0] is "/init" or "init". */
int ev_enclave_is_init(int argc, char **argv);

#endif

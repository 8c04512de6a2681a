/* aws_root.h — the AWS Nitro Enclaves root certificate G1 as DER bytes. */
#ifndef EV_NITRO_AWS_ROOT_H
#define EV_NITRO_AWS_ROOT_H

#include <stdint.h>

enum { EV_AWS_ROOT_G1_LEN = 533 };
extern const uint8_t ev_aws_root_g1[EV_AWS_ROOT_G1_LEN];

#endif

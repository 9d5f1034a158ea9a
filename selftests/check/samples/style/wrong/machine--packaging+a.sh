# SPDX-License-Identifier: Apache-2.0
cd /work/main

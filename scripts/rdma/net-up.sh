# Sourced in the guest: a network device that loops back, and an RDMA device on it.
ip link set lo up
ip link add dummy0 type dummy 2>/dev/null # the module may have made it
ip addr add 10.99.0.1/24 dev dummy0
ip link set dummy0 mtu 4200 up
rdma link add rxe0 type rxe netdev dummy0

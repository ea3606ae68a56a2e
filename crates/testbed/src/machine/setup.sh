# What becomes of namespaces of its own before the test begins: a network that is loopback alone, folders of the system in
# which every change is this test's, and data folders that are none of the machine's. Runs as process 1.
set -e
folder=$1 programs=$2
shift 2
busybox ip link set lo up
mount -t tmpfs -o mode=755 tmpfs /run
for place in etc opt root usr/local var/lib; do
    mkdir -p "$folder/over/$place" "$folder/work/$place"
    mount -t overlay -o "lowerdir=/$place,upperdir=$folder/over/$place,workdir=$folder/work/$place" overlay "/$place"
done
for place in containerd docker containers; do
    mkdir -p "$folder/data/$place" "/var/lib/$place"
    mount --bind "$folder/data/$place" "/var/lib/$place"
done
# Nothing that was configured by hand on this machine counts.
rm -rf /etc/docker /var/lib/harbor-satellite
for others in $(echo "$programs" | tr : ' '); do
    for program in "$others"/*; do
        name=${program##*/}
        for place in /usr/bin /usr/sbin; do
            if [ -e "$place/$name" ]; then mount --bind "$program" "$place/$name"; fi
        done
    done
done
cd /
"$@" &
wait $!

"""The job broker: free slots, waiting grid jobs for a site map, and grid jobs for job agents."""

from collections.abc import Mapping

from tests.world.central_services.directory import Directory
from tests.world.central_services.generations import Generation
from tests.world.central_services.java_classes import (
    array_list,
    entries,
    fill_map,
    hash_map,
    integer,
    read_capacity,
)
from tests.world.central_services.java_errors import Thrown
from tests.world.central_services.java_nodes import Instance, Node, Text, literal
from tests.world.central_services.java_values import Plain, null_pointer, plain
from tests.world.central_services.matching import NO_PARTITION, BrokenQuery, Where, users_of, where
from tests.world.central_services.task_queue import Taken, TaskQueue

_BROKER = "alien.taskQueue.JobBroker"
_WAITING = ("alien.api.taskQueue.GetNumberWaitingJobs", "run", 46)

OK, UNKNOWN_HOST, NOT_UPDATED, NO_LIMITS, LOCKED = 0, 1, 2, 3, -2


class SiteMap:
    """The HashMap of a request, extended as the server does: its table grows from the size that was read."""

    def __init__(self, node: Instance) -> None:
        self._node = node
        self._pairs = entries(node)
        self._capacity = read_capacity(len(self._pairs))
        self.asked: dict[str, Plain] = {key.value: plain(value) for key, value in self._pairs if isinstance(key, Text)}

    def put(self, name: str, value: Node) -> None:
        """Sets a key; a new one comes last."""
        if name in self.asked:
            self._pairs = [
                (key, value if isinstance(key, Text) and key.value == name else old) for key, old in self._pairs
            ]
        else:
            self._pairs = [*self._pairs, (literal(name), value)]
        self.asked[name] = plain(value)
        fill_map(self._node, self._pairs, capacity=self._capacity)

    def put_if_absent(self, name: str, value: Node) -> None:
        """Sets a key that is not there, or is there with null."""
        if self.asked.get(name) is None:
            self.put(name, value)

    def node_of(self, name: str) -> Node:
        """The value of a key, None when there is none."""
        return next((value for key, value in self._pairs if isinstance(key, Text) and key.value == name), None)


class Broker:
    """Answers from the task queue and the directory."""

    def __init__(self, tasks: TaskQueue, directory: Directory, generation: Generation, *, ce_host: str) -> None:
        self._tasks = tasks
        self._directory = directory
        self._generation = generation
        self._ce_host = ce_host

    def slots(self, ce: str, host: str) -> list[int]:
        """The code of GetNumberFreeSlots, and the CE's limits when it is OK."""
        if ce and not self._tasks.is_open(ce):
            return [LOCKED]
        if not self._directory.knows_host(host):
            return [UNKNOWN_HOST]
        limits = self._tasks.limits(ce)
        if host != self._ce_host or limits.max_jobs is None or limits.max_queued is None:
            return [NO_LIMITS]
        return [OK, limits.max_jobs, limits.max_queued]

    def waiting(self, site_map_node: Instance) -> Instance:
        """The reply's map; the request's is extended on the way. Raises Thrown."""
        site_map = SiteMap(site_map_node)
        site_map.put("Remote", integer(0))
        self._add_ldap_values(site_map)
        try:
            count = self._tasks.waiting(self._where(site_map.asked))
        except BrokenQuery:
            # The second attempt, for jobs that any site may take by now, of which there are none here.
            site_map.put("Remote", integer(1))
            return hash_map([(literal("Code"), integer(0))])
        return hash_map(
            [
                (literal("Code"), integer(1)),
                # The column's name and value come fresh from the database each time, unlike the constants.
                (Text("counter"), literal("") if count is None else Text(str(count))),
                *((literal(name), site_map.node_of(name)) for name in ("CE", "Host")),
            ]
        )

    def match(self, agent: str, run: str, ce: str) -> Taken | None:
        """A grid job that this CE (full name) may run, as far as the directory knows."""
        allowed, refused = users_of(self._requirements(ce.split("::")[1], ce) or "")
        partitions = self._directory.partitions(ce)
        asked: dict[str, Plain] = {"CE": ce, "Site": ce.split("::")[1], "CVMFS": 1, "Partition": partitions}
        try:
            wanted = self._where(asked | {"Users": [*allowed], "NoUsers": [*refused]})
        except BrokenQuery:
            return None
        return self._tasks.match(agent, run, ce, wanted)

    def _where(self, asked: Mapping[str, Plain]) -> Where:
        accounts = self._directory.accounts() | self._tasks.users()
        return where(asked, partition_needed=self._generation.partition_needed, accounts=accounts)

    def _requirements(self, site: str, ce: str) -> str | None:
        parts = ce.split("::")
        if len(parts) < 3:
            message = f"Index 2 out of bounds for length {len(parts)}"
            frames = ((_BROKER, "updateWithValuesInLDAP", 621), (_BROKER, "getNumberWaitingForSite", 384), _WAITING)
            raise Thrown("java.lang.ArrayIndexOutOfBoundsException", message, *frames)
        return self._directory.requirements(site, parts[2])

    def _add_ldap_values(self, site_map: SiteMap) -> None:
        asked = site_map.asked
        unchecked = "CheckedLDAP" not in asked
        ce, site = asked.get("CE"), asked.get("Site")
        if unchecked and "CE" in asked and site is not None:
            if ce is None:
                text = 'because the return value of "java.util.HashMap.get(Object)" is null'
                raise null_pointer(f'Cannot invoke "Object.toString()" {text}', _WAITING)
            if found := self._requirements(str(site), str(ce)):
                site_map.put_if_absent("ce_requirements", Text(found))
        given = asked.get("ce_requirements")
        allowed, refused = users_of("" if given is None else str(given))
        for name, users in (("Users", allowed), ("NoUsers", refused)):
            site_map.put_if_absent(name, array_list(Text(user) for user in users))
        if unchecked and "CE" in asked and "Partition" not in asked:
            partitions = self._directory.partitions(str(ce))
            if partitions != NO_PARTITION:
                site_map.put("Partition", Text(partitions))
        if unchecked:
            site_map.put("CheckedLDAP", literal(""))

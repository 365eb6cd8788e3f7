"""Past one device: how a state is spread over a mesh; see `of_state`."""

__namespace__ = "sharding"

from gradtx.sharding.placing import init as init
from gradtx.sharding.placing import of_state as of_state
from gradtx.sharding.planning import Collective as Collective
from gradtx.sharding.planning import Plan as Plan
from gradtx.sharding.planning import plan as plan
from gradtx.sharding.reporting import Placed as Placed
from gradtx.sharding.reporting import Report as Report
from gradtx.sharding.reporting import report as report
from gradtx.sharding.sharing import shared_out as shared_out
from gradtx.sharding.zero import zero as zero

// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

// A contract for tests with the interface of the Tangle contracts that a runner uses: the same
// functions, events, errors, and order of checks. It takes no payment, keeps no stake, and verifies no
// aggregated signature. What begins with "test" is not part of the genuine interface.
contract Service {
    event JobSubmitted(uint64 indexed serviceId, uint64 indexed callId, uint8 jobIndex, address caller, bytes inputs);
    event JobSubmittedFromQuote(
        uint64 indexed serviceId,
        uint64 indexed callId,
        uint8 jobIndex,
        address caller,
        address[] quotedOperators,
        uint256 totalPrice,
        bytes inputs
    );
    event JobResultSubmitted(uint64 indexed serviceId, uint64 indexed callId, address indexed operator, bytes output);
    event JobCompleted(uint64 indexed serviceId, uint64 indexed callId);
    event AggregatedResultSubmitted(uint64 indexed serviceId, uint64 indexed callId, uint256 signerBitmap, bytes output);
    event ServiceTerminated(uint64 indexed serviceId);
    event OperatorLeftService(uint64 indexed serviceId, address indexed operator);
    event Paused(address account);
    event Unpaused(address account);

    error EnforcedPause();
    error ServiceNotFound(uint64 serviceId);
    error JobCallNotFound(uint64 serviceId, uint64 callId);
    error ServiceNotActive(uint64 serviceId);
    error ServiceExpired(uint64 serviceId);
    error AggregationRequired(uint64 serviceId, uint8 jobIndex);
    error AggregationNotRequired(uint64 serviceId, uint8 jobIndex);
    error OperatorNotInService(uint64 serviceId, address operator);
    error OperatorNotActive(address operator);
    error JobAlreadyCompleted(uint64 serviceId, uint64 callId);
    error ResultAlreadySubmitted(uint64 serviceId, uint64 callId, address operator);
    error NotQuotedOperator(uint64 serviceId, uint64 callId);
    error LengthMismatch();
    error UnknownSelector(bytes4 selector);

    struct JobCall {
        uint8 jobIndex;
        address caller;
        uint64 createdAt;
        uint32 resultCount;
        bool completed;
        bool isRFQ;
        uint256 payment;
    }

    struct ServiceData {
        uint64 blueprintId;
        address owner;
        uint64 createdAt;
        uint64 ttl;
        uint64 terminatedAt;
        uint64 lastPaymentAt;
        uint32 operatorCount;
        uint32 minOperators;
        uint32 maxOperators;
        uint8 membership;
        uint8 pricing;
        uint8 status;
        uint8 confidentiality;
    }

    address public immutable operatorStatusRegistry;
    bool public paused;
    bool public requireOperatorKeyProof;
    uint64 public serviceCount;
    uint8 public jobs;
    bytes private definition; // what getBlueprintDefinition returns, as it is

    mapping(uint64 => ServiceData) private services;
    mapping(uint64 => address[]) private operators;
    mapping(uint64 => mapping(address => bool)) private member;
    mapping(address => bool) private inactive; // in staking
    mapping(uint64 => uint64) private calls; // by service: how many
    mapping(uint64 => mapping(uint64 => JobCall)) private jobCalls;
    mapping(uint64 => mapping(uint64 => address[])) private quoted;
    mapping(uint64 => mapping(uint64 => mapping(address => bool))) private answered;
    mapping(uint64 => mapping(address => bool)) private registered; // by blueprint
    mapping(uint8 => uint32) private required; // results that a job needs; 0: one
    mapping(uint8 => bool) private aggregated;
    mapping(address => uint256) public pendingRewards;

    constructor(address[] memory members, uint8 jobCount) {
        operatorStatusRegistry = address(new StatusRegistry(this));
        jobs = jobCount;
        testCreateService(members, 0);
    }

    fallback() external payable {
        revert UnknownSelector(msg.sig);
    }

    // Jobs.

    function submitJob(uint64 serviceId, uint8 jobIndex, bytes calldata inputs) external payable returns (uint64 callId) {
        callId = add(serviceId, jobIndex, false);
        emit JobSubmitted(serviceId, callId, jobIndex, msg.sender, inputs);
    }

    function testSubmitFromQuote(uint64 serviceId, uint8 jobIndex, address[] calldata who, bytes calldata inputs)
        external
        payable
        returns (uint64 callId)
    {
        callId = add(serviceId, jobIndex, true);
        quoted[serviceId][callId] = who;
        emit JobSubmittedFromQuote(serviceId, callId, jobIndex, msg.sender, who, msg.value, inputs);
    }

    function add(uint64 serviceId, uint8 jobIndex, bool rfq) private returns (uint64 callId) {
        if (paused) revert EnforcedPause();
        live(serviceId);
        require(jobIndex < jobs, "no such job");
        callId = calls[serviceId]++;
        jobCalls[serviceId][callId] = JobCall(jobIndex, msg.sender, uint64(block.timestamp), 0, false, rfq, msg.value);
    }

    function live(uint64 serviceId) private view {
        ServiceData storage s = services[serviceId];
        if (s.status != 1) revert ServiceNotActive(serviceId);
        if (s.ttl != 0 && block.timestamp > s.createdAt + s.ttl) revert ServiceExpired(serviceId);
    }

    function submitResult(uint64 serviceId, uint64 callId, bytes calldata output) external {
        submit(serviceId, callId, output);
    }

    function submitResults(uint64 serviceId, uint64[] calldata callIds, bytes[] calldata outputs) external {
        if (callIds.length != outputs.length) revert LengthMismatch();
        for (uint256 i = 0; i < callIds.length; i++) submit(serviceId, callIds[i], outputs[i]);
    }

    function submit(uint64 serviceId, uint64 callId, bytes calldata output) private {
        if (paused) revert EnforcedPause();
        if (serviceId >= serviceCount) revert ServiceNotFound(serviceId);
        JobCall storage c = jobCalls[serviceId][callId];
        if (c.createdAt == 0) revert JobCallNotFound(serviceId, callId);
        live(serviceId);
        if (aggregated[c.jobIndex]) revert AggregationRequired(serviceId, c.jobIndex);
        if (!member[serviceId][msg.sender]) revert OperatorNotInService(serviceId, msg.sender);
        if (inactive[msg.sender]) revert OperatorNotActive(msg.sender);
        if (c.completed) revert JobAlreadyCompleted(serviceId, callId);
        if (answered[serviceId][callId][msg.sender]) revert ResultAlreadySubmitted(serviceId, callId, msg.sender);
        if (c.isRFQ && !among(quoted[serviceId][callId], msg.sender)) revert NotQuotedOperator(serviceId, callId);
        answered[serviceId][callId][msg.sender] = true;
        emit JobResultSubmitted(serviceId, callId, msg.sender, output);
        c.resultCount++;
        uint32 need = required[c.jobIndex] == 0 ? 1 : required[c.jobIndex];
        if (c.resultCount >= need) complete(serviceId, callId, c);
    }

    function submitAggregatedResult(
        uint64 serviceId,
        uint64 callId,
        bytes calldata output,
        uint256 signerBitmap,
        uint256[2] calldata,
        uint256[4] calldata
    ) external {
        if (paused) revert EnforcedPause();
        JobCall storage c = jobCalls[serviceId][callId];
        if (c.createdAt == 0) revert JobCallNotFound(serviceId, callId);
        live(serviceId);
        if (!aggregated[c.jobIndex]) revert AggregationNotRequired(serviceId, c.jobIndex);
        if (c.completed) revert JobAlreadyCompleted(serviceId, callId);
        emit AggregatedResultSubmitted(serviceId, callId, signerBitmap, output);
        complete(serviceId, callId, c);
    }

    function complete(uint64 serviceId, uint64 callId, JobCall storage c) private {
        c.completed = true;
        emit JobCompleted(serviceId, callId);
        if (c.payment > 0) pendingRewards[msg.sender] += c.payment;
    }

    function among(address[] storage list, address who) private view returns (bool) {
        for (uint256 i = 0; i < list.length; i++) if (list[i] == who) return true;
        return false;
    }

    // Views.

    function getJobCall(uint64 serviceId, uint64 callId) external view returns (JobCall memory) {
        return jobCalls[serviceId][callId];
    }

    function getJobQuotedOperators(uint64 serviceId, uint64 callId) external view returns (address[] memory) {
        return quoted[serviceId][callId];
    }

    function getService(uint64 serviceId) external view returns (ServiceData memory) {
        return services[serviceId];
    }

    function getServiceOperators(uint64 serviceId) external view returns (address[] memory) {
        return operators[serviceId];
    }

    function isServiceActive(uint64 serviceId) external view returns (bool) {
        return services[serviceId].status == 1; // also after the ttl, like the genuine one
    }

    function isServiceOperator(uint64 serviceId, address operator) external view returns (bool) {
        return member[serviceId][operator];
    }

    function isOperatorActive(address operator) external view returns (bool) {
        return !inactive[operator];
    }

    function isPermittedCaller(uint64, address) external pure returns (bool) {
        return true;
    }

    function getServicePaymentAsset(uint64) external pure returns (address) {
        return address(0);
    }

    function getJobEventRate(uint64, uint8) external pure returns (uint256) {
        return 0;
    }

    function blueprintCount() external pure returns (uint64) {
        return 1;
    }

    function getBlueprint(uint64 id) external view returns (address, address, uint64, uint8, uint8, bool) {
        if (id != 0) return (address(0), address(0), 0, 0, 0, false);
        return (services[0].owner, address(this), services[0].createdAt, 0, 0, true);
    }

    function getBlueprintDefinition(uint64) external view returns (bytes memory) {
        bytes memory d = definition;
        assembly {
            return(add(d, 32), mload(d))
        }
    }

    // Of the blueprint's manager, which this contract is too.

    function requiresAggregation(uint64, uint8 job) external view returns (bool) {
        return aggregated[job];
    }

    function getAggregationThreshold(uint64, uint8) external pure returns (uint16, uint8) {
        return (6700, 0);
    }

    function getRequiredResultCount(uint64, uint8 job) external view returns (uint32) {
        return required[job] == 0 ? 1 : required[job];
    }

    // Money and operators.

    function claimRewards() external {
        uint256 due = pendingRewards[msg.sender];
        pendingRewards[msg.sender] = 0;
        payable(msg.sender).transfer(due);
    }

    function registerOperator(uint64 blueprintId, bytes calldata key, string calldata) external {
        register(blueprintId, key);
    }

    function registerOperator(uint64 blueprintId, bytes calldata key, string calldata, bytes calldata) external {
        register(blueprintId, key);
    }

    function register(uint64 blueprintId, bytes calldata key) private {
        require(key.length == (requireOperatorKeyProof ? 130 : 65), "key");
        registered[blueprintId][msg.sender] = true;
    }

    function isOperatorRegistered(uint64 blueprintId, address operator) external view returns (bool) {
        return registered[blueprintId][operator];
    }

    // What only tests do.

    function testCreateService(address[] memory members, uint64 ttl) public returns (uint64 serviceId) {
        serviceId = serviceCount++;
        uint32 n = uint32(members.length);
        services[serviceId] =
            ServiceData(0, msg.sender, uint64(block.timestamp), ttl, 0, uint64(block.timestamp), n, 1, 0, 0, 0, 1, 0);
        operators[serviceId] = members;
        for (uint256 i = 0; i < members.length; i++) {
            member[serviceId][members[i]] = true;
            registered[0][members[i]] = true;
        }
    }

    function testPause(bool on) external {
        paused = on;
        if (on) emit Paused(msg.sender);
        else emit Unpaused(msg.sender);
    }

    function testTerminate(uint64 serviceId) external {
        services[serviceId].status = 2;
        services[serviceId].terminatedAt = uint64(block.timestamp);
        emit ServiceTerminated(serviceId);
    }

    function testLeave(uint64 serviceId, address operator) external {
        member[serviceId][operator] = false;
        address[] storage list = operators[serviceId];
        for (uint256 i = 0; i < list.length; i++) {
            if (list[i] == operator) {
                list[i] = list[list.length - 1];
                list.pop();
                services[serviceId].operatorCount--;
                break;
            }
        }
        emit OperatorLeftService(serviceId, operator);
    }

    function testSetActive(address operator, bool active) external {
        inactive[operator] = !active;
    }

    function testSetJob(uint8 job, uint32 results, bool aggregate) external {
        required[job] = results;
        aggregated[job] = aggregate;
    }

    function testSetKeyProof(bool on) external {
        requireOperatorKeyProof = on;
    }

    function testSetDefinition(bytes calldata encoded) external {
        definition = encoded;
    }
}

// The registry of operators' heartbeats, as far as a runner uses it.
contract StatusRegistry {
    event HeartbeatReceived(
        uint64 indexed serviceId, uint64 indexed blueprintId, address indexed operator, uint8 statusCode, uint256 timestamp
    );

    error NotRegisteredOperator();

    struct State {
        uint256 lastHeartbeat;
        uint64 consecutive;
        uint8 missed;
        uint8 status;
        bytes32 metricsHash;
    }

    Service private immutable tangle;
    mapping(uint64 => mapping(address => State)) private states;

    constructor(Service s) {
        tangle = s;
    }

    function isRegisteredOperator(uint64 serviceId, address operator) public view returns (bool) {
        return tangle.isServiceActive(serviceId) && tangle.isServiceOperator(serviceId, operator);
    }

    function submitHeartbeatDirect(uint64 serviceId, uint64 blueprintId, uint8 statusCode, bytes calldata metrics) external {
        if (!isRegisteredOperator(serviceId, msg.sender)) revert NotRegisteredOperator();
        State storage s = states[serviceId][msg.sender];
        s.lastHeartbeat = block.timestamp;
        s.consecutive++;
        s.status = statusCode == 0 ? 0 : 1;
        s.metricsHash = keccak256(metrics);
        emit HeartbeatReceived(serviceId, blueprintId, msg.sender, statusCode, block.timestamp);
    }

    function getHeartbeatConfig(uint64) external pure returns (uint64, uint8, bool) {
        return (300, 3, false);
    }

    function getOperatorState(uint64 serviceId, address operator) external view returns (State memory) {
        State memory s = states[serviceId][operator];
        if (s.lastHeartbeat == 0) s.status = 2;
        return s;
    }

    function isOnline(uint64 serviceId, address operator) external view returns (bool) {
        State storage s = states[serviceId][operator];
        return s.lastHeartbeat != 0 && s.status < 2;
    }

    function goOffline(uint64 serviceId) external {
        states[serviceId][msg.sender].status = 2;
    }

    function goOnline(uint64 serviceId) external {
        states[serviceId][msg.sender].status = 0;
    }
}

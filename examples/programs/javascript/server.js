// A model as a program: a V2 request comes in as one line of JSON, its response goes out as one line.
const WEIGHTS = [0.02, 0.00003, -0.0001], BIAS = -1.5;

const probability = row => 1 / (1 + Math.exp(-row.reduce((sum, value, i) => sum + value * WEIGHTS[i], BIAS)));

function answer(request) {
  const x = request.inputs.find(input => input.name === 'X');
  const [rows, width] = x.shape;
  const probabilities = Array.from({length: rows}, (_, i) => probability(x.data.slice(i * width, (i + 1) * width)));
  return {
    id: request.id,  // whose answer this is
    outputs: [
      {name: 'label', datatype: 'INT64', shape: [rows], data: probabilities.map(p => Number(p > 0.5))},
      {name: 'probability', datatype: 'FP64', shape: [rows], data: probabilities},
    ],
  };
}

require('readline').createInterface({input: process.stdin}).on('line', line => {
  const request = JSON.parse(line);
  try {
    process.stdout.write(JSON.stringify(answer(request)) + '\n');
  } catch (error) {  // a request that the model does not take
    process.stdout.write(JSON.stringify({id: request.id, error: String(error)}) + '\n');
  }
});

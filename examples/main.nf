// Score a folder of slides with Nextflow: one task a slide, then one worklist of all.
//
//   nextflow run examples/main.nf --slides 'slides/*.svs' --model model/ --results results/
nextflow.enable.dsl = 2

params.slides = 'slides/*'
params.model = 'model'
params.results = 'results'

process SCORE {
    tag "${slide.simpleName}"
    publishDir params.results, mode: 'copy'
    cpus 2
    memory '8 GB'
    errorStrategy 'ignore' // a slide that cannot be scored does not stop the others

    input:
    path slide
    path model

    output:
    path "scored/${slide.baseName}"

    script:
    """
    wsi-anomaly score '${slide}' --model '${model}' --output scored --heatmap --workers ${task.cpus}
    """
}

workflow {
    SCORE(Channel.fromPath(params.slides), file(params.model))
}
